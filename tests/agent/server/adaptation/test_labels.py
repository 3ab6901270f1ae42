"""What feedback says of an answer, what of it a run is given, and that a damaged file is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.server import memory as memory_module
from agent.server.adaptation.labels import Label, Labels, label_of
from agent.server.adaptation.questions import BY_INDEX, lines, material, of_one_kind, window_rows
from agent.server.adaptation.state import Adoption, Evidence, ServerState, read_server_state
from agent.server.errors import ApiError
from agent.server.memory import MOST_CHARS, REMEMBERED, Answered, Memory
from agent.server.wire import Feedback
from cao.errors import InputError
from cao.tasks.question_file import load_user_task

RANKED = Answered("a", "base", True, ("drift-1",), "Can it fly?", "", ("yes", "no"), "yes", 0)
WRITTEN = replace(RANKED, choices=(), text="Paris ", choice=None)


@pytest.mark.parametrize(
    ("asked", "told", "answer", "correct"),
    [
        (RANKED, {"answer": 1}, 1, False),
        (RANKED, {"answer": "no"}, 1, False),
        (RANKED, {"answer": "a"}, 0, True),
        (RANKED, {"correct": True}, 0, True),
        (RANKED, {"correct": False}, None, False),
        (replace(RANKED, choice=None, text=None), {"answer": "no"}, 1, None),
        (WRITTEN, {"answer": "paris"}, "paris", True),
        (WRITTEN, {"answer": "Rome"}, "Rome", False),
        (replace(WRITTEN, text="Paris."), {"answer": "Paris"}, "Paris", True),
        (replace(WRITTEN, text="Two boxes hold 14 pens. The answer is 14."), {"answer": "14"}, "14", True),
        (replace(WRITTEN, text="Two boxes hold 14 pens. The answer is 15."), {"answer": 14}, "14", False),
        (replace(WRITTEN, text="14"), {"answer": "7 and 7 are 14 #### 14"}, "7 and 7 are 14 #### 14", True),
        (WRITTEN, {"answer": "The city of Paris", "correct": True}, "The city of Paris", True),
        (WRITTEN, {"correct": True}, "Paris", True),
        (WRITTEN, {"correct": False}, None, False),
        (replace(WRITTEN, text=None), {"answer": 7}, "7", None),
        (replace(WRITTEN, text=" "), {"answer": "Paris"}, "Paris", False),
        (replace(WRITTEN, text=""), {"answer": "Paris"}, "Paris", False),
        (replace(WRITTEN, text="14 and no more ####"), {"correct": True}, None, True),
        (replace(WRITTEN, text=""), {"correct": True}, None, True),
    ],
)
def test_feedback_says_what_is_right(asked: Answered, told: dict[str, Any], answer: object, correct: bool) -> None:
    label = label_of(Feedback(id="a", **told), asked)
    assert (label.answer, label.correct) == (answer, correct)


@pytest.mark.parametrize("answer", [2, -1, "perhaps", "C"])
def test_an_answer_that_is_no_choice_is_refused(answer: int | str) -> None:
    with pytest.raises(ApiError, match="none of 2 choices"):
        label_of(Feedback(id="a", answer=answer), RANKED)


@pytest.mark.parametrize("answer", [" ", "14 ####"])
def test_a_blank_right_answer_is_refused(answer: str) -> None:
    with pytest.raises(ApiError, match="is blank"):
        label_of(Feedback(id="a", answer=answer), WRITTEN)


def test_labels_belong_to_a_task_by_their_window_or_by_what_was_expected(tmp_path: Path) -> None:
    labels = Labels(tmp_path / "f.jsonl")
    for key, tasks in (("a", ("piqa",)), ("b", ("drift-1",)), ("c", ("piqa", "drift-1")), ("d", ("drift-2",))):
        labels.add(Label(id=key, tasks=tasks, model="base", question=f"q {key}", answer="x"))
    labels.add(Label(id="b", tasks=("drift-1",), model="base", question="q b", answer="y"))
    labels.add(Label(id="e", tasks=("drift-1",), model="base", question="q e", correct=False))
    again = Labels(tmp_path / "f.jsonl")
    for kept in (labels, again):
        assert kept.of("drift-1", {"a"}) == [{"question": "q a", "answer": "x"}, {"question": "q b", "answer": "y"}]


def test_the_first_label_counts_that_tells_whether_an_answer_was_right(tmp_path: Path) -> None:
    labels, label = Labels(tmp_path / "f.jsonl"), Label(id="a", tasks=(), model="base", question="q", answer="x")
    assert not labels.add(label)  # the answer was not there yet
    assert labels.add(label.model_copy(update={"correct": False}))
    assert not labels.add(label.model_copy(update={"correct": True}))
    assert not Labels(labels.path).add(label.model_copy(update={"correct": True}))


def test_what_is_said_again_is_not_kept_again(tmp_path: Path) -> None:
    labels, label = Labels(tmp_path / "f.jsonl"), Label(id="a", tasks=(), model="base", question="q", correct=True)
    assert labels.add(label)
    written = labels.path.read_bytes()
    assert not labels.add(label)
    assert labels.path.read_bytes() == written
    labels.add(label.model_copy(update={"correct": False}))
    assert len(labels.path.read_bytes()) > len(written)


def test_a_line_that_a_kill_cut_off_is_dropped_and_a_damaged_one_refused(tmp_path: Path) -> None:
    labels = Labels(tmp_path / "f.jsonl")
    labels.add(Label(id="a", tasks=(), model="base", question="q", answer="x"))
    with labels.path.open("a") as file:
        file.write('{"id": "b", "ta')
    assert Labels(labels.path).of("t", {"a", "b"}) == [{"question": "q", "answer": "x"}]
    for damage in ('{"id": 3}\n', labels.path.read_text().replace('"answer":"x"', '"answer":"y"')):
        labels.path.write_text(damage)
        with pytest.raises(InputError, match=r"f.jsonl:1: damaged"):
            Labels(labels.path)


def test_a_run_is_given_questions_of_one_kind_each_once(tmp_path: Path) -> None:
    told = [{"prompt": f"q{i}", "id": f"k{i}", "choices": ["a", "b"]} for i in range(3)] + [{"prompt": "t", "id": "t"}]
    (tmp_path / "w").write_text("".join(json.dumps(one) + "\n" for one in told))
    rows = window_rows(tmp_path / "w")
    assert list(rows) == ["k0", "k1", "k2", "t"]
    kept = of_one_kind([*rows.values(), {"question": "q0", "choices": ["a", "b"], "answer": 1}])
    assert [row["question"] for row in kept] == ["q0", "q1", "q2"]
    assert kept[0]["answer"] == 1  # what is known of a question counts, not what is not
    assert lines(kept).count("\n") == 3


def test_the_oldest_answers_are_forgotten_and_huge_ones_not_kept() -> None:
    memory = Memory()
    for number in range(REMEMBERED + 1):
        memory.ask(replace(RANKED, id=str(number)))
    memory.ask(replace(RANKED, id="huge", question="x" * (MOST_CHARS + 1)))
    assert memory.get("0") is None
    assert memory.get("huge") is None
    memory.answer("1", "no", 1)
    memory.answer("0", "no", 1)
    assert memory.get("1") == replace(RANKED, id="1", text="no", choice=1)


def test_all_that_is_remembered_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "TOGETHER", 1000)
    memory = Memory()
    for number in range(20):
        memory.ask(replace(RANKED, id=str(number), question="x" * 100, choices=(), text=None))
    assert [number for number in range(20) if memory.get(str(number))] == list(range(10, 20))
    memory.answer("10", "y" * 100, None)
    memory.ask(replace(RANKED, id="new", question="x" * 100, choices=(), text=None))
    assert [number for number in range(20) if memory.get(str(number))] == list(range(11, 20))


def test_a_state_is_read_as_it_was_written_and_a_damaged_one_refused(tmp_path: Path) -> None:
    assert read_server_state(tmp_path) == ServerState()
    state = ServerState(adopted={"drift-1": Adoption(run="runs/drift-1/x", run_id="x", evidence=Evidence(level=0.5))})
    state.write(tmp_path)
    assert read_server_state(tmp_path) == state
    whole = (tmp_path / "state.json").read_text()
    for damage in ("{", '{"version": 9}', '{"colour": 1}', whole.replace("0.5", "0.4")):
        (tmp_path / "state.json").write_text(damage)
        with pytest.raises(InputError, match=r"state.json: damaged; give another --out"):
            read_server_state(tmp_path)


def test_a_written_answer_that_runs_cannot_judge_by_is_no_right_answer() -> None:
    label = label_of(Feedback(id="a", correct=True), WRITTEN, "number")
    assert (label.answer, label.correct) == (None, True)


ONE, OTHER = ["wet", "dry"], ["3", "1", "2"]


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([{"question": "Why?", "answer": "a"}, {"question": "Why? ", "answer": "b"}], ["b"]),
        ([{"question": "Why?", "answer": "a"}, {"question": " ", "answer": "b"}], ["a"]),
        ([{"question": "Why?", "answer": "a"}, {"question": "", "answer": "b"}], ["a"]),
        ([{"question": "Why?", "answer": "a"}, {"question": "Who?", "context": " ", "answer": "b"}], ["a"]),
        ([{"question": "Why?", "answer": "a"}, {"question": "Who?", "answer": "so ####"}], ["a"]),
        (
            [
                {"question": "Is it?", "choices": ONE, "answer": 0},
                {"question": "Is it?", "choices": ONE[::-1], "answer": 0},
            ],
            ["dry"],
        ),
        (
            [
                {"question": "How many?", "choices": OTHER, "answer": 0},
                {"question": "Or?", "choices": OTHER, "answer": 1},
            ],
            ["3", "1"],
        ),
        (
            [
                {"question": "Is it?", "choices": ONE, "answer": 0},
                {"question": "Or?", "choices": ["a", "a "], "answer": 0},
            ],
            ["wet"],
        ),
    ],
)
def test_a_run_reads_the_file_that_it_is_given(tmp_path: Path, rows: list[dict[str, Any]], kept: list[str]) -> None:
    given = material(tmp_path, "drift-1", rows, [])
    given.questions.write_text(lines(of_one_kind(rows)))  # as where there are enough
    keys = BY_INDEX if "choices" in rows[0] else ""
    assert [one.gold_text for one in load_user_task(given.questions, keys=keys).load()] == kept
    assert given.known == len(kept)


def test_a_runs_file_is_never_written_again(tmp_path: Path) -> None:
    rows = [{"question": f"q {i}", "choices": ONE, "answer": i % 2} for i in range(60)]
    first = material(tmp_path, "drift-1", rows, rows)
    held = first.questions.read_bytes()
    second = material(tmp_path, "drift-1", [*rows[:-1], {**rows[-1], "answer": 0}], rows)
    assert (first.enough, first.ranked) == (True, True)
    assert first.prompts is not None
    assert second.questions != first.questions
    assert first.questions.read_bytes() == held
    assert material(tmp_path, "drift-1", rows, rows) == first
