"""Prompts drift under a real server: it adapts by a real run, swaps, is restarted, and takes back what proves bad."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.server.drifting import ask, configuration, drifting, new, usual
from tests.agent.server.running_site import Served, serving


def until(it: Served, holds: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    """Ask for the health until something holds of it."""
    for _ in range(2000):
        told: dict[str, object] = it.send("/health")[1]
        if holds(told):
            return told
        time.sleep(0.2)
    raise AssertionError(told)


@pytest.mark.integration
@pytest.mark.slow
def test_it_adapts_swaps_goes_on_after_a_restart_and_takes_a_bad_model_back(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    chosen, file, out = drifting(tiny_model_folder, tmp_path / "s"), configuration(tmp_path), tmp_path / "s"
    with serving(chosen, file=file) as it:
        for row in usual(60):
            assert ask(it, row)[1] == "base"
        for row in new(90):
            key, _, _ = ask(it, row)
            status, told, _ = it.post("/v1/feedback", id=key, answer=row["answer"])
            assert (status, told["object"]) == (200, "feedback")
        until(it, lambda told: told["tasks"] == ["drift-1"])
        until(it, lambda told: not told["adapting"])
        assert it.send("/health")[1]["current"] == "drift-1", (out / "events.jsonl").read_text()
        assert [ask(it, row)[1] for row in new(3, 200)] == ["drift-1"] * 3
        assert "drift-1" in [one.id for one in it.client.models.list()]
        pinned = it.client.completions.create(model="drift-1", prompt="Tom", max_tokens=3)
        assert (pinned.model, pinned.usage and pinned.usage.completion_tokens) == ("drift-1", 3)
    lines = (out / "events.jsonl").read_text().splitlines(keepends=True)
    (out / "events.jsonl").write_text(lines[0])
    (out / "state.json").unlink()  # as a kill leaves it between the end of a run and what becomes of that
    with serving(chosen, file=file) as it:
        until(it, lambda told: told["current"] == "drift-1")
        assert len(list((out / "runs" / "drift-1").glob("*/run.json"))) == 1
        effects = []
        for row in new(60, 300):
            key, model, _ = ask(it, row)
            told = it.post("/v1/feedback", id=key, correct=False)[1]
            effects.append((model, told["effect"]))
            if model == "base":
                break
        assert ("drift-1", "rolled_back") in effects
        assert it.send("/health")[1]["current"] == "base"
        assert it.post("/v1/completions", model="drift-1", prompt="a")[0] == 404
    with serving(chosen, file=file) as it:
        assert it.send("/health")[1]["current"] == "base"
    told = [json.loads(line)["event"] for line in (out / "events.jsonl").read_text().splitlines()]
    assert told == ["adopted", "swap", "rolled_back", "swap"]
