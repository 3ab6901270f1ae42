"""What a run is made of a window: its lines, whatever separators stand in a prompt."""

from pathlib import Path

import pytest

from agent.config import RunConfig
from agent.loop import request
from agent.stream.adapting import adapting
from agent.stream.options import WatchOptions
from cao.errors import InputError


def test_a_window_is_counted_by_its_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int, int]] = []

    def read(config: RunConfig) -> None:
        sizes.append((config.support, config.reward, config.test))
        raise InputError("no answers")

    monkeypatch.setattr(request, "read_task", read)
    window = tmp_path / "w.jsonl"
    window.write_text("".join(f'{{"prompt": "one\u2028two\u0085three {i}"}}\n' for i in range(60)))
    adapt = adapting(WatchOptions(stream="-", out=tmp_path, offline=True), None, lambda: None)  # type: ignore[arg-type, return-value]
    assert adapt("drift-1", window)["run"] is None
    assert sizes == [(20, 20, 20)]
