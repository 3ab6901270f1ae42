"""What a run is made of a window: its lines, whatever separators stand in a prompt."""

from pathlib import Path

import pytest

from agent.config import RunConfig
from agent.loop import request
from agent.stream.adapting import adapting, sizes_of
from agent.stream.options import WatchOptions
from cao.errors import InputError
from cao.files import sha256_file


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
    file = tmp_path / "runs.toml"
    file.write_text("support = 8\nreward = 24\nseed = 5\n")
    adapt = adapting(WatchOptions(stream="-", out=tmp_path, offline=True), file, lambda: None)  # type: ignore[arg-type, return-value]
    adapt("drift-1", window)
    assert sizes[-1] == (8, 24, 28)


@pytest.mark.parametrize(
    ("lines", "stated", "sizes"),
    [
        (64, {}, (22, 21, 21)),
        (64, {"reward": 24}, (20, 24, 20)),
        (60, {"support": 8, "reward": 24, "test": 24}, (8, 24, 24)),
        (60, {"support": 8, "test": 9}, (8, 43, 9)),
        (30, {"support": 8, "reward": 24}, (10, 10, 10)),  # too few: the last window of a stream, say
        (64, {"support": 25, "reward": 200, "test": 200}, (22, 21, 21)),
    ],
)
def test_a_window_is_divided_among_the_sizes_that_are_not_stated(
    lines: int, stated: dict[str, int], sizes: tuple[int, int, int]
) -> None:
    found = sizes_of(lines, stated)
    assert (found["support"], found["reward"], found["test"]) == sizes


def test_a_seed_of_the_command_line_wins_over_the_file_and_a_run_goes_on_with_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[int, int]] = []

    def read(config: RunConfig) -> None:
        found.append((config.seed, config.reward))
        raise InputError("no answers")

    monkeypatch.setattr(request, "read_task", read)
    file, window = tmp_path / "runs.toml", tmp_path / "w.jsonl"
    file.write_text("reward = 24\nseed = 3\n")
    window.write_text("".join(f'{{"prompt": "{i}"}}\n' for i in range(60)))
    for given in ({}, {"seed": 5}):
        options = WatchOptions(stream="-", out=tmp_path, offline=True, **given)
        adapting(options, file, lambda: None)("drift-1", window)  # type: ignore[arg-type, return-value]
    assert found == [(3, 24), (5, 24)]
    begun = request.RunHeader(
        run_id="r",
        created="",
        config={"seed": 9, "reward": 21},
        fingerprint={"task_sha256": sha256_file(window)},
        graph_sha256="",
        model_sha256="",
        pretrained={},
    )
    (tmp_path / "runs" / "drift-1" / "r").mkdir(parents=True)
    begun.write(tmp_path / "runs" / "drift-1" / "r")
    adapting(WatchOptions(stream="-", out=tmp_path, offline=True), file, lambda: None)("drift-1", window)  # type: ignore[arg-type, return-value]
    assert found[-1] == (9, 21)
