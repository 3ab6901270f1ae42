"""What a server says of its models, and which runs it has dealt with, across processes that were killed."""

import fcntl
import json
import threading
from pathlib import Path

import pytest

from agent.server.adaptation.events import Events
from agent.server.adaptation.questions import Material
from agent.server.adaptation.runs import Runs, StoppedError
from agent.server.adaptation.state import ServerState, read_server_state
from agent.server.metrics import Metrics
from tests.agent.server.running_site import options


def said(folder: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()]


def test_what_was_said_is_not_said_again_and_what_was_not_is(tmp_path: Path) -> None:
    events = Events(tmp_path, Metrics(), "base")
    events.once("adopted", "drift-1", "run a")
    events.swapped("drift-1", "run a was accepted")
    with (tmp_path / "events.jsonl").open("a") as stream:
        stream.write('{"event": "rolled')  # what a kill cut off
    again = Events(tmp_path, Metrics(), "base")
    assert again.current == "drift-1"
    again.once("adopted", "drift-1", "run a")
    again.swapped("drift-1", "it is still")
    again.once("rolled_back", "drift-1", "run a: 0 of 9 right")
    again.swapped("base", "it was taken back")
    assert said(tmp_path) == ["adopted", "swap", "rolled_back", "swap"]


def begun(folder: Path, run: str, *, ended: bool) -> None:
    place = folder / "runs" / "drift-1" / run
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    if ended:
        (place / "run.json").write_text("{}")


def test_a_run_is_pending_until_it_is_settled_what_became_of_it(tmp_path: Path) -> None:
    runs = Runs(options(tmp_path, tmp_path), None)
    assert runs.pending("drift-1", ()) is None
    begun(tmp_path, "a", ended=True)
    begun(tmp_path, "b", ended=False)
    assert runs.pending("drift-1", ()) == "a"
    assert runs.pending("drift-1", runs.ended("drift-1")) == "b"
    ServerState(tried={"drift-1": 60}).write(tmp_path)
    assert read_server_state(tmp_path).judged == {}


def test_a_run_that_outlived_its_server_is_waited_for(tmp_path: Path) -> None:
    runs = Runs(options(tmp_path, tmp_path), None)
    begun(tmp_path, "a", ended=False)
    with (tmp_path / "runs" / "drift-1.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(0.2, runs.stop).start()
        with pytest.raises(StoppedError):
            runs.make("drift-1", Material(0, tmp_path / "q.jsonl"))
    assert not (tmp_path / "runs" / "drift-1.log").exists()
