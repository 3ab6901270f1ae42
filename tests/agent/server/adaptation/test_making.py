"""Which runs a server makes: when, of what, and what it does about one that cannot be gone on with."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Lock

import pytest

from agent.server.adaptation.control import Adaptation
from agent.server.adaptation.evidence import Evidence
from agent.server.adaptation.labels import Label, Labels
from agent.server.adaptation.questions import Material
from agent.server.adaptation.runs import Runs
from agent.server.adaptation.state import Adoption, ServerState, read_server_state
from agent.server.adaptation.watching import Watching
from agent.server.errors import ApiError
from agent.server.memory import Answered
from agent.server.metrics import Metrics
from agent.server.roster import Roster, Served
from agent.server.settings import ServeOptions
from agent.server.wire import Feedback
from cao.configuration import parse_assignment
from cao.errors import InputError, NoRoomError
from tests.agent import run_folders
from tests.agent.server.drifting import drifting, new

TASK = "drift-1"


class Scripted(Runs):
    """Makes runs of no model; of those that are resumed none can be."""

    def begin(
        self, refused: int = 2, during: Callable[[], None] = lambda: None, status: str = "no_improvement"
    ) -> None:
        self.words: list[list[str]] = []
        self.refused, self.during, self.status = refused, during, status

    def command(self, words: list[str], log: Path, lock: int) -> tuple[int, str]:
        self.words.append(words)
        if "--resume" in words:
            return self.refused, ""
        self.during()
        name, questions = f"made-{len(self.words)}", Path(words[words.index("--task") + 1]).read_text()
        rows = [json.loads(line) for line in questions.splitlines()]
        read = {
            "format": "JSONL",
            "rows": len(rows),
            "questions": len(rows),
            "keys": {"question": "question", "choices": "choices"},
            "answers": "indexes from 0" if "answer" in rows[0] else "none",
        }
        record = run_folders.record(name) | {"data": read, "status": self.status}
        run_folders.write_run(self.options.out / "runs" / TASK, name, record)
        return 0, json.dumps({"run_id": name})


@pytest.fixture
def making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Adaptation]]:
    """A server that expects a new task whose window is there; nothing is loaded, and nothing watched."""
    monkeypatch.setattr(Watching, "start", lambda self: None)
    monkeypatch.setattr(Watching, "current", lambda self: (TASK,))
    with ExitStack() as ending:

        def make(state: ServerState | None = None, started: bool = True) -> Adaptation:
            out = tmp_path / "s"
            (out / "watch" / "windows").mkdir(parents=True, exist_ok=True)
            rows = [
                {"prompt": row["question"], "choices": row["choices"], "id": f"w{i}"} for i, row in enumerate(new(20))
            ]
            (out / "watch" / "windows" / f"{TASK}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            if state is not None:
                state.write(out)
            runs = Scripted(drifting(tmp_path, out), None)
            runs.begin()
            closed: list[Served] = []
            it = Adaptation(runs.options, runs, Roster(Served("base")), Metrics(), _opened, closed.append)
            ending.callback(it.stop)
            if started:
                it.start()
            return it

        yield make


def _opened(task: str, folder: Path, record: object) -> Served:
    return Served(task, there=folder.name, run_id=folder.name)


def label(it: Adaptation, n: int, begin: int = 0) -> None:
    """Give the right answers to new questions."""
    for row in new(n, begin):
        key = f"k{row['question']}"
        it.memory.ask(Answered(key, "base", True, (TASK,), row["question"], "", tuple(row["choices"])))
        it.memory.answer(key, row["choices"][0], 0)
        it.feedback(Feedback(id=key, answer=row["answer"]))


def waited(it: Adaptation) -> list[list[str]]:
    """Wait until nothing is wanted; return the commands that were given."""
    for _ in range(400):
        if not it.health()["adapting"]:
            break
        time.sleep(0.05)
    assert it.health()["adapting"] == []
    assert isinstance(it.runs, Scripted)
    return it.runs.words


def begun(out: Path, run: str) -> None:
    (out / "runs" / TASK / run).mkdir(parents=True)
    (out / "runs" / TASK / run / "config.json").write_text("{}")


def test_a_run_that_cannot_be_gone_on_with_is_put_aside_and_a_new_one_made(
    making: Callable[..., Adaptation], tmp_path: Path
) -> None:
    begun(tmp_path / "s", "a")
    it = making()
    assert [words[0] for words in waited(it)] == ["--resume", "--task"]
    assert read_server_state(tmp_path / "s").judged == {TASK: ["a", "made-2"]}
    label(it, 60)
    assert [words[0] for words in waited(it)] == ["--resume", "--task", "--task"]


def test_a_run_that_ended_in_another_way_is_gone_on_with_later(
    making: Callable[..., Adaptation], tmp_path: Path
) -> None:
    begun(tmp_path / "s", "a")
    it = making(started=False)
    assert isinstance(it.runs, Scripted)
    it.runs.begin(refused=1)
    it.start()
    assert [words[0] for words in waited(it)] == ["--resume"]
    assert read_server_state(tmp_path / "s").judged == {TASK: []}


def test_questions_with_choices_are_read_by_index(making: Callable[..., Adaptation]) -> None:
    it = making(ServerState(tried={TASK: 0}, judged={TASK: []}))
    label(it, 60)
    ((*words,),) = waited(it)
    assert words[words.index("--map") + 1] == "answer=answer:0"
    assert words[words.index("--grader") + 1] == "auto"


def test_answers_count_as_used_by_the_run_that_knew_them(making: Callable[..., Adaptation], tmp_path: Path) -> None:
    it = making()
    assert len(waited(it)) == 1  # without any answer
    assert read_server_state(tmp_path / "s").tried == {TASK: 0}
    label(it, 56)
    assert len(waited(it)) == 2
    assert read_server_state(tmp_path / "s").tried == {TASK: 56}


def test_answers_that_an_earlier_run_never_saw_start_another_one(
    making: Callable[..., Adaptation], tmp_path: Path
) -> None:
    read = {"format": "JSONL", "rows": 60, "questions": 60, "keys": {}, "answers": "indexes"}
    record = run_folders.record("a") | {"data": read, "status": "no_improvement"}
    run_folders.write_run(tmp_path / "s" / "runs" / TASK, "a", record)  # it ended, and nobody has looked at it
    labels = Labels(tmp_path / "s" / "feedback.jsonl")
    for number, row in enumerate(new(120)):
        told = {"question": row["question"], "choices": row["choices"], "answer": row["answer"]}
        labels.add(Label.model_validate({"id": str(number), "tasks": (TASK,), "model": "base", **told}))
    it = making()
    assert [words[0] for words in waited(it)] == ["--task"]
    assert read_server_state(tmp_path / "s").tried == {TASK: 120}


def test_answers_that_come_while_a_run_is_made_start_another_one(making: Callable[..., Adaptation]) -> None:
    it, inside = making(started=False), Lock()
    assert isinstance(it.runs, Scripted)

    def during() -> None:
        if inside.acquire(blocking=False):
            label(it, 60)

    it.runs.begin(during=during)
    it.start()
    assert len(waited(it)) == 2


def test_traffic_that_returns_to_a_task_starts_no_run_without_new_answers(
    making: Callable[..., Adaptation], tmp_path: Path
) -> None:
    one = Adoption(run=f"runs/{TASK}/x", run_id="x", status="rolled_back", evidence=Evidence(level=0.9))
    it = making(ServerState(adopted={TASK: one}, tried={TASK: 60}, judged={TASK: []}))
    assert it.watching.adapt is not None
    assert "too few answers" in it.watching.adapt(TASK, tmp_path)["told"]
    assert waited(it) == []
    label(it, 119)
    assert waited(it) == []
    label(it, 1, 119)
    assert len(waited(it)) == 1


def test_what_is_served_no_more_is_closed(making: Callable[..., Adaptation]) -> None:
    it = making(started=False)
    assert isinstance(it.runs, Scripted)
    it.runs.begin(status="improved")
    it.roster.by_drift[TASK] = Served(TASK, there="older")
    closed: list[str] = []
    it.close = lambda model: closed.append(model.there)
    it.start()
    waited(it)
    assert closed == ["older"]
    assert it.roster.by_drift[TASK].there == "made-1"


def test_a_full_disk_ends_no_adaptation(
    making: Callable[..., Adaptation], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise NoRoomError("the disk is full")

    it = making(started=False)
    assert it.watching.adapt is not None
    with monkeypatch.context() as patched:
        patched.setattr("agent.server.adaptation.control.material", full)
        patched.setattr("agent.server.adaptation.events.append_line", full)
        it.start()
        assert waited(it) == []
        assert it.wrong == ""
    it.watching.adapt(TASK, tmp_path)
    assert len(waited(it)) == 1
    it.watching.ended = "the disk is full"
    assert it.wrong == "nothing is watched any more: the disk is full"


def test_a_second_server_on_a_folder_is_told_of_the_first(making: Callable[..., Adaptation]) -> None:
    making()
    with pytest.raises(InputError, match="another server is at work in it"):
        making()


def test_an_answer_that_is_empty_counts_against_the_model(making: Callable[..., Adaptation]) -> None:
    it = making(ServerState(tried={TASK: 0}, judged={TASK: []}))
    it.memory.ask(Answered("k", "base", True, (TASK,), "Why?"))
    assert it.feedback(Feedback(id="k", answer="so"))["correct"] is None  # nothing is written yet
    it.memory.answer("k", "", None)
    assert it.feedback(Feedback(id="k", answer="so"))["correct"] is False
    with pytest.raises(ApiError, match="no answer with this id"):
        it.feedback(Feedback(id="l", answer="so"))


def test_a_run_is_told_odd_folders_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "the 🐦 and é"
    runs = Scripted(drifting(folder, tmp_path / "s"), None)
    runs.begin()
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "Why?"}))
    runs.make(TASK, Material(0, tmp_path / "q.jsonl"))
    assert {"model_path": str(folder)} in [parse_assignment(word) for word in runs.words[0] if "=" in word]


def test_a_run_is_not_told_the_servers_own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "python"
    told.write_text("#!/bin/sh\nenv\n")
    told.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(told))
    monkeypatch.setenv("CAO_SERVE_KEY", "not for a run")
    monkeypatch.setenv("OPENAI_API_KEY", "for its policy")
    with (tmp_path / "lock").open("w") as lock:
        code, out = Runs(ServeOptions(), None).command([], tmp_path / "log", lock.fileno())
    assert code == 0
    assert "for its policy" in out
    assert "not for a run" not in out
