"""How free-text answers are judged, one rule a test."""

import sys
from pathlib import Path

import pytest

from cao.errors import InputError
from cao.tasks.graders import build_grader, token_f1
from cao.tasks.question_file import load_user_task
from cao.types import Example
from tests.cao.tasks.question_files import GOOD, written


def example(gold: str, *accepted: str) -> Example:
    return Example(id="x", question="Q?", gold_text=gold, accepted=accepted)


@pytest.mark.parametrize(
    ("spec", "gold", "right", "wrong"),
    [
        ("exact", "Paris", ["Paris.", "**paris**", "Paris\nbecause"], ["It is Paris", "Lyon", ""]),
        ("number", "18", ["18", "so it is 18.0", "5\n#### 18"], ["81", "18 or 19", "none"]),
        ("f1", "the Viking Rollo", ["Rollo the Viking", "a viking Rollo led"], ["Harald", "", "the the the"]),
        ("f1:1", "the Viking Rollo", ["viking rollo"], ["Rollo"]),
        ("rouge", "the bird flies high", ["The bird flies high.", "the bird is flying high"], ["a dog", ""]),
        ("rouge:1.0", "the bird flies", ["the bird flies"], ["the bird"]),
        (
            "label",
            "positive",
            ["It is positive.", "Positive", "positive, not negative"],
            ["negative", "nonpositive"],
        ),
        ("auto", "7", ["it is 7"], ["8"]),
    ],
)
def test_a_grader_judges_by_its_rule(spec: str, gold: str, right: list[str], wrong: list[str]) -> None:
    if spec.startswith("rouge"):
        pytest.importorskip("rouge_score")
    one = example(gold)
    grade = build_grader(spec, [one, example("negative")] if spec == "label" else [one])
    assert [grade(text, one) for text in (*right, *wrong)] == [True] * len(right) + [False] * len(wrong)


def test_any_of_several_right_answers_counts() -> None:
    one = example("Twain", "Samuel Clemens")
    assert [build_grader("f1", [one])(text, one) for text in ("Clemens", "Mark Twain", "Poe")] == [True, True, False]


def test_f1_by_hand() -> None:
    assert token_f1("the red bird", "a bird of prey") == pytest.approx(2 * 1 / (2 + 3))
    assert (token_f1("the", "a"), token_f1("the", "bird")) == (1.0, 0.0)


def test_a_users_function_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_graders_here.py").write_text(
        "def starts(text, golds, question):\n    return text.startswith(golds[0])\n"
        "def half(text, golds, question):\n    return 0.49\n"
        "def broken(text, golds, question):\n    return 1 / 0\n"
        "value = 3\n"
    )
    one = example("Par")
    assert build_grader("my_graders_here:starts", [one])("Paris", one)
    assert not build_grader("my_graders_here:half", [one])("Paris", one)
    with pytest.raises(InputError, match=r"failed on an answer \(ZeroDivisionError"):
        build_grader("my_graders_here:broken", [one])("Paris", one)
    for spec, reason in (("value", "is no function"), ("none", "cannot be loaded")):
        with pytest.raises(InputError, match=reason):
            build_grader(f"my_graders_here:{spec}", [one])
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("exacto", "known: auto, exact"),
        ("f1:2", "above 0 and at most 1"),
        ("f1:x", "above 0"),
        ("number", "the answer 'Paris' is no number"),
        ("no_such_module_here:f", "cannot be loaded"),
    ],
)
def test_a_grader_that_cannot_judge_is_refused(spec: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        build_grader(spec, [example("Paris")])


def test_graders_are_for_free_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which are ranked"):
        load_user_task(written(tmp_path, GOOD), grader="f1")
    task = load_user_task(written(tmp_path, {"question": "Q?", "answer": "the red bird"}), grader="f1")
    assert task.grade("red bird", task.load()[0])
