"""Which feedback counts against an adopted model: on answers of the kind that its run measured, judged as it judged."""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.server.adaptation.control import Adaptation
from agent.server.adaptation.evidence import Evidence
from agent.server.adaptation.runs import Runs
from agent.server.adaptation.state import Adoption, ServerState
from agent.server.adaptation.watching import Watching
from agent.server.memory import Answered
from agent.server.metrics import Metrics
from agent.server.roster import Roster, Served
from agent.server.wire import Feedback
from cao.errors import InputError
from tests.agent import run_folders
from tests.agent.server.drifting import drifting

READ = {"format": "JSONL", "rows": 60, "questions": 60}
WRITTEN = READ | {"keys": {"question": "question", "answer": "answer"}, "answers": "texts"}
RANKED = READ | {"keys": {"question": "question", "choices": "choices", "answer": "answer"}, "answers": "indexes"}
SENTENCE = "Two boxes hold 14 pens. The answer is 14."
KEYS = itertools.count()
Serving = Callable[..., Adaptation]


@pytest.fixture
def adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    """Serve what a run adopted whose record says how it measured; nothing is loaded, and nothing watched."""
    monkeypatch.setattr(Watching, "start", lambda self: None)
    with ExitStack() as ending:

        def serve(protocol: str, data: dict[str, object], config: str = "") -> Adaptation:
            out, file = tmp_path / "s", tmp_path / "c.toml"
            file.write_text(config)
            run = run_folders.record("x") | {"protocol": protocol, "data": data}
            run_folders.write_run(out / "runs" / "drift-1", "x", run)
            one = Adoption(run="runs/drift-1/x", run_id="x", evidence=Evidence(level=0.9))
            ServerState(adopted={"drift-1": one}, tried={"drift-1": 60}).write(out)
            options, metrics = drifting(tmp_path, out), Metrics()
            roster = Roster(Served("base"))
            it = Adaptation(options, Runs(options, file), roster, metrics, _opened, lambda model: None)
            ending.callback(it.stop)
            it.start()
            return it

        yield serve


def _opened(task: str, folder: Path, record: object) -> Served:
    return Served(task, run_id="x")


def told(it: Adaptation, text: str, n: int = 1, choices: tuple[str, ...] = (), **said: object) -> list[object]:
    """Give feedback on new answers; returns what became of each."""
    effects = []
    for _ in range(n):
        key = str(next(KEYS))
        it.memory.ask(Answered(key, "drift-1", True, ("drift-1",), f"q {key}", "", choices, run="x"))
        it.memory.answer(key, text, 1 if choices else None)
        effects.append(it.feedback(Feedback.model_validate({"id": key, **said}))["effect"])
    return effects


def test_right_answers_in_whole_sentences_take_no_model_back(adopted: Serving) -> None:
    it = adopted("generate", WRITTEN)
    told(it, SENTENCE, 30, answer="14")
    told(it, "Paris.", 30, answer="Paris")
    assert it.health()["adopted"]["drift-1"] == {"run": "x", "status": "served", "right": 60, "asked": 60}  # type: ignore[index, call-overload]
    assert told(it, "Two boxes hold 15 pens.", 9, answer="14")[-1] == "kept"  # what was won is lost first
    assert "rolled_back" in told(it, "Rome", 30, answer="Paris")


@pytest.mark.parametrize(
    ("protocol", "data", "choices", "counts"),
    [
        ("generate", WRITTEN, (), True),
        ("generate", WRITTEN, ("a", "b"), False),
        ("likelihood", RANKED, ("a", "b"), True),
        ("likelihood", RANKED, (), False),
        ("generate", RANKED, ("a", "b"), True),  # the letter of a choice was written
        ("likelihood", WRITTEN, (), False),  # of a file's yes and no, choices were made
    ],
)
def test_an_answer_of_another_kind_than_the_run_measured_is_no_evidence(
    adopted: Serving, protocol: str, data: dict[str, object], choices: tuple[str, ...], counts: bool
) -> None:
    it = adopted(protocol, data)
    assert ("rolled_back" in told(it, "b", 20, choices, correct=False)) is counts
    assert ("drift-1" in it.roster.by_drift) is not counts


def test_written_answers_are_judged_by_the_runs_grader(adopted: Serving, tmp_path: Path) -> None:
    it = adopted("generate", WRITTEN, 'grader = "label"')
    told(it, "good", answer="bad")
    told(it, "It is not bad but good.", answer="good")  # "bad" is named first, and known from above
    told(it, "I call it bad.", answer="bad")
    kept = [json.loads(line) for line in (tmp_path / "s" / "feedback.jsonl").read_text().splitlines()]
    assert [one["correct"] for one in kept] == [False, False, True]


def test_an_answer_that_the_runs_grader_cannot_judge_by_is_refused(adopted: Serving, tmp_path: Path) -> None:
    it = adopted("generate", WRITTEN, 'grader = "number"')
    with pytest.raises(InputError, match="the answer 'Paris' is no number"):
        told(it, SENTENCE, answer="Paris")
    assert not (tmp_path / "s" / "feedback.jsonl").exists()
    assert told(it, SENTENCE, answer="14") == ["kept"]


def test_a_grader_that_is_none_is_refused_at_the_start(adopted: Serving) -> None:
    with pytest.raises(InputError, match="unknown grader 'nearly'"):
        adopted("generate", WRITTEN, 'grader = "nearly"')
