"""What a consolidation tells of its work, the rest of its time, and the summary of its index."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.train.clock import Clock, span
from agent.train.generator.index import recovery, summary
from cao.files import sha256_bytes

pytestmark = pytest.mark.slow


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock's time."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_a_piece_of_work_is_told_of_every_ten_seconds_and_at_its_end(
    at: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock([], 0)
    for done in range(1, 22):
        at(100 + 2 * (done - 1))
        clock.progress("generator full", done, 21)
    assert capsys.readouterr().err.splitlines() == [
        "generator full: 1 of 21",  # from one report alone nothing can be said
        "generator full: 6 of 21, 30 s left",  # five steps in ten seconds, fifteen to go
        "generator full: 11 of 21, 20 s left",
        "generator full: 16 of 21, 10 s left",
        "generator full: 21 of 21",
    ]


def test_work_that_goes_on_is_timed_from_where_it_went_on(
    at: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock([], 0)
    for seconds, label, done in ((0, "a", 900), (20, "a", 910), (30, "a", 1), (50, "a", 5), (60, "b", 3)):
        at(seconds)
        clock.progress(label, done, 1000)
    assert capsys.readouterr().err.splitlines() == [
        "a: 900 of 1000",
        "a: 910 of 1000, 3 min left",  # 2 s a step, 90 steps: not the 900 steps that another process did
        "a: 1 of 1000",  # the same work for another variant
        "a: 5 of 1000, 83 min left",  # 5 s a step
        "b: 3 of 1000",
    ]


def test_the_rest_is_reckoned_from_the_kinds_of_jobs_that_were_timed(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [("states", "a"), ("states", "b"), ("union", "full"), ("variant", "full"), ("variant", "without-a")]
    clock = Clock(jobs, 7, workers=2)
    for job, seconds in zip(jobs, (10.0, 30.0, 40.0, 4000.0, 1.0), strict=True):
        clock.finished(job, seconds)
    assert capsys.readouterr().err.splitlines() == [
        "[3/7 done] states a took 10 s; about 5 s and 1 union and 2 variant jobs, of which none is timed yet left",
        "[4/7 done] states b took 30 s; 1 union and 2 variant jobs, of which none is timed yet left",
        "[5/7 done] union full took 40 s; 2 variant jobs, of which none is timed yet left",
        "[6/7 done] variant full took 67 min; about 33 min left",
        "[7/7 done] variant without-a took 1 s",
    ]


def test_durations_are_for_people() -> None:
    assert [span(s) for s in (0.4, 89, 90, 3600, 5399, 5400, 86400)] == [
        *("0 s", "89 s", "2 min", "60 min", "90 min", "1.5 h", "24.0 h")
    ]


def test_recovery_is_the_share_of_the_checkpoints_gain() -> None:
    validation = {
        "half": {"base": 2.0, "checkpoint": 1.0, "generated": 1.5},
        "worse": {"base": 2.0, "checkpoint": 1.5, "generated": 2.25},
        "better": {"base": 1.0, "checkpoint": 0.75, "generated": 0.5},
        "no gain": {"base": 1.0, "checkpoint": 1.0, "generated": 0.5},
        "harm": {"base": 1.0, "checkpoint": 1.25, "generated": 0.5},
    }
    assert recovery(validation) == {"half": 0.5, "worse": -0.5, "better": 2.0}
    assert recovery({}) == {}


def test_the_summary_averages_over_the_sources_that_gain(tmp_path: Path) -> None:
    part = {"path": "x.safetensors", "sha256": sha256_bytes(b"")}
    gains = {
        "a": {"base": 2.0, "checkpoint": 1.0, "generated": 1.5},
        "b": {"base": 2.0, "checkpoint": 1.0, "generated": 1.0},
    }
    entries = [
        {"name": "full", "sources": ["a", "b"], "generator": part, "made": {"validation": gains}},
        {"name": "without-a", "sources": ["b"], "generator": part, "made": {}},
    ]
    models = {"0" * 64: {"name": "m", "variants": entries}}
    (tmp_path / "index.json").write_text(json.dumps({"format": 1, "models": models}))
    first, full, without, last = summary(tmp_path).splitlines()
    assert first == f"{tmp_path}:"
    assert " ".join(full.split()) == "full recovers 0.75 of the checkpoints' gain on 2 sources"
    assert " ".join(without.split()) == "without-a not measured"
    assert last == "Add --install to use it in agent.run."
    assert "Installed in here." in summary(tmp_path, Path("here"))
