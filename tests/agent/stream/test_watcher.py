"""The watcher: alarms and their events, the same after a stop, and in words."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agent.stream.source import FileSource
from agent.stream.state import WatchState
from agent.stream.watcher import Watcher
from agent.stream.wording import words
from cao.files import opened
from cao.model.encoder import Encoder
from tests.agent.stream.colours import WORDS, ColourEncoder, kinds, prompts
from tools.detect_drift import detect_drift
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.wording import NOT_IDENTIFIABLE


def watch(
    folder: Path, stream: list[str], adapt: Any = None, encoder: Encoder | None = None, **settings: Any
) -> list[dict[str, Any]]:
    """Watch a stream of red and blue where red is expected; return the events on disk."""
    folder.mkdir(exist_ok=True)
    path = folder / "stream.jsonl"
    path.write_text("".join(f"{line}\n" for line in stream))
    encoder = encoder or ColourEncoder(folder)
    known = KnownTasks({name: Reference(encoder.embed(prompts(name, 300, 5000))) for name in ("red", "blue")}, ("red",))
    defaults = {"threshold": 1000, "window": 32, "seed": 0, "reference": ["red"]}
    held = folder / "state.json"
    state = (
        WatchState.model_validate_json(opened(held.read_bytes()))
        if held.exists()
        else WatchState(settings={**defaults, **settings}, current=["red"])
    )
    Watcher(folder, FileSource(path), encoder, known, state, lambda event: None, adapt).run()
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_an_undrifted_stream_raises_no_alarm_and_repeats_do_not_count(tmp_path: Path) -> None:
    stream = [*prompts("red", 150), *prompts("red", 20), "", '{"broken'] * 2
    events = watch(tmp_path / "w", stream)
    assert kinds(events) == ["start", "skipped", "end"]
    assert (events[-1]["prompts"], events[-1]["alarms"]) == (150, 0)
    assert events[-1]["skipped"] == len(stream) - 150


def test_unreadable_lines_are_counted_and_the_first_for_each_reason_is_shown(tmp_path: Path) -> None:
    stream = ['{"body": "x"}'] * 340 + ['["a"]', *prompts("red", 1), *['["a"]'] * 1200]
    events = watch(tmp_path / "w", stream)
    object_, list_ = (event["reason"] for event in events[1:3])
    assert [(e["line"], e["count"]) for e in events if e["event"] == "skipped"] == [(1, 1), (341, 1), (1342, 1001)]
    assert events[-1]["unreadable"] == {object_: 340, list_: 1201}
    assert words(events[-1], Path()).endswith(
        f"1541 skipped, of which could not be read: 340 ({object_}), 1201 ({list_})"
    )
    assert words(events[1], Path()) == f"line 1 skipped: {object_}"
    assert words(events[3], Path()) == f"line 1342 skipped: {list_} (1001 such lines so far)"


def test_known_and_new_tasks_are_named_and_a_task_that_comes_back_is_recognised(tmp_path: Path) -> None:
    adapted: list[str] = []

    def adapt(task: str, path: Path) -> dict[str, Any]:
        adapted.append(task)
        assert len(path.read_text().splitlines()) == 32
        (tmp_path / "w" / "runs" / task / "adapter").mkdir(parents=True)
        return {"run": f"runs/{task}", "told": "improved"}

    stream = [
        *prompts("red", 60),
        *prompts("blue", 60),
        *prompts("green", 80),
        *prompts("blue", 60, 100),
        *prompts("green", 60, 100),
    ]
    events = watch(tmp_path / "w", stream, adapt)
    changes = [event["tasks"] for event in events if event["event"] == "expect"]
    assert changes == [["blue"], ["drift-1"], ["blue"], ["drift-1"]]
    assert kinds(events).count("alarm") == 4
    assert kinds(events).count("new_task") == 1
    assert adapted.count("drift-1") == 1  # the second time its adapter was there
    stored = [event for event in events if event["event"] == "adapter" and event["task"] == "drift-1"]
    assert [event["stored"] for event in stored] == [False, True]
    deployed = json.loads((tmp_path / "w" / "deployed.json").read_text())
    assert deployed == {"tasks": ["drift-1"], "run": "runs/drift-1", "adapter": "runs/drift-1/adapter"}
    reports = [event["report"]["kind"] for event in events if event["event"] == "window"]
    assert reports == ["covariate", "domain_transfer", "covariate", "covariate"]
    alarm = next(event for event in events if event["event"] == "alarm")
    assert 61 <= alarm["prompt"] <= 70
    assert 55 <= alarm["since"] <= alarm["prompt"]


class TwinEncoder(ColourEncoder):
    """Prompts that differ in their last word alone are nearly the same."""

    def embed(self, prompts: list[str], batch_size: int = 32) -> Tensor:
        alike = super().embed([prompt.rsplit(" ", 1)[0] for prompt in prompts])
        return torch.nn.functional.normalize(alike + 0.02 * super().embed(prompts), dim=1)


def test_a_new_kind_that_comes_in_twins_raises_no_more_alarms_than_promised(tmp_path: Path) -> None:
    alarms = []
    for begin in range(0, 5000, 1000):
        twins = [f"{prompt} {word}" for prompt in prompts("green", 200, begin) for word in ("now", "then")]
        events = watch(tmp_path / str(begin), [*prompts("red", 60), *twins], encoder=TwinEncoder(tmp_path), window=64)
        alarms.append(events[-1]["alarms"])
        thinned = next(event for event in events if event["event"] == "thinned")
        assert (thinned["every"], thinned["holds"]) == (2, True)
        assert "one in 2 is judged" in words(thinned, Path())
    assert min(alarms) >= 1
    assert sum(alarms) - 5 <= 2  # 5 × 330 prompts behind the first window, one alarm in 1,000


def test_state_is_bounded_and_a_finished_stream_says_nothing_twice(tmp_path: Path) -> None:
    stream = [*prompts("red", 40), *prompts("blue", 60)]
    first = watch(tmp_path / "w", stream, threshold=100_000)  # no false alarm by chance
    assert watch(tmp_path / "w", stream) == first
    longer = watch(tmp_path / "w", [*stream, *prompts("blue", 30, 500)])
    assert longer[: len(first)] == first
    assert kinds(longer[len(first) :]) == ["end"]
    assert longer[-1]["prompts"] == 130


@pytest.mark.parametrize("stop", range(3, 14))
def test_a_stop_at_any_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    stream = [*prompts("red", 60), *prompts("blue", 60), *prompts("green", 60)]
    whole = watch(tmp_path / "whole", stream)

    class StopError(Exception):
        pass

    count = 0
    write = Watcher.log

    def stopping(self: Watcher, event: str, **data: Any) -> None:
        nonlocal count
        count += 1
        write(self, event, **data)
        if count == stop:
            raise StopError

    monkeypatch.setattr(Watcher, "log", stopping)
    try:
        watch(tmp_path / "w", stream)
    except StopError:
        monkeypatch.setattr(Watcher, "log", write)
        assert watch(tmp_path / "w", stream) == whole
    else:
        assert stop > len(whole)


def test_events_in_words() -> None:
    assert words({"event": "alarm", "prompt": 7, "since": 5}, Path()) == (
        "ALARM at prompt 7; the change may have begun at prompt 5"
    )
    assert "no adapter for drift-1: why" in words({"event": "not_adapted", "task": "drift-1", "reason": "why"}, Path())
    ended = {"event": "end", "prompts": 60, "alarms": 1, "skipped": 0, "unreadable": {}}
    assert words(ended, Path()) == "the stream ended: 60 prompts, 1 alarm, 0 skipped"


def test_a_window_in_words_tells_its_limits_but_not_those_of_every_window() -> None:
    prompts = [f"{colour} thing number {i}" for i in range(4) for colour in WORDS] + ["red " + "word " * 400]
    encoder = ColourEncoder(Path())
    known = KnownTasks({"red": Reference(encoder.embed([f"red thing {i}" for i in range(80)]))})
    report = detect_drift(prompts, None, known, encoder=encoder)
    assert NOT_IDENTIFIABLE in report.caveats
    told = words({"event": "window", "alarm": 1, "report": report.model_dump(mode="json")}, Path())
    assert told.startswith(f"the 13 prompts behind it: {report.sentence}. 1 of 13 prompts are longer than")
    assert NOT_IDENTIFIABLE not in told
    assert words(
        {"event": "window", "report": {"n": 9, "sentence": "so", "caveats": ["a", NOT_IDENTIFIABLE, "b"]}}, Path()
    ) == ("the 9 prompts behind it: so. a. b")


def test_a_run_that_adopted_several_adapters_is_deployed_by_its_strategy(tmp_path: Path) -> None:
    stream = [*prompts("red", 60), *prompts("green", 60)]
    events = watch(tmp_path / "w", stream, lambda task, path: {"run": "runs/x", "told": "improved"})
    deployed = json.loads((tmp_path / "w" / "deployed.json").read_text())
    assert deployed == {"tasks": ["drift-1"], "run": "runs/x", "adapter": None}
    told = [words(event, tmp_path / "w") for event in events]
    place = tmp_path / "w" / "runs"
    shown = f"python -m agent.trace show x --out {place}"
    assert f"deployed for drift-1: {place}/x/strategy.json (improved); {shown}" in told
