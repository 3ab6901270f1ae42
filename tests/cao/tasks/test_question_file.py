"""The user's own file: what is taken, and how it is graded."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cao.errors import InputError
from cao.tasks.base import Task
from cao.tasks.question_file import load_user_task, task_name
from cao.tasks.splits import split
from cao.types import ID_PATTERN
from tests.cao.tasks.question_files import GOOD, refusal, written


def loaded(folder: Path, *lines: object) -> Task:
    return load_user_task(written(folder, *lines))


@pytest.mark.parametrize("answer", [1, "B", "b", "bird", " bird "])
def test_an_answer_is_an_index_a_letter_or_a_choice(tmp_path: Path, answer: object) -> None:
    (example,) = loaded(tmp_path, {**GOOD, "answer": answer}).load()
    assert (example.choices, example.answer, example.gold_text) == (("dog", "bird"), 1, "bird")


def test_choices_are_asked_by_letter_and_graded(tmp_path: Path) -> None:
    task = loaded(tmp_path, {**GOOD, "context": "At the zoo."})
    (example,) = task.load()
    assert example.prompt == "At the zoo.\nWhich flies?"
    assert "B. bird" in task.ask(example)
    assert task.gold(example) == "B"
    assert [task.grade(text, example) for text in ("B", "bird", "A", "dog", "")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert [len(task.query(example, style).branches) for style in ("text", "letter")] == [2, 2]
    assert (task.name, task.has_train, task.description) == ("my-task", False, "")


@pytest.mark.parametrize(
    ("answer", "gold", "right", "wrong"),
    [
        (18, "18", ["18", "so 9 + 9 = 18.0", "#### 18"], ["81", "18, no: 19", ""]),
        (0.1, "0.1", ["0.10", ".1"], ["1"]),
        ("1,450", "1,450", ["$1450"], ["1"]),
        ("9 + 9 = 18\n#### 18", "18", ["18"], ["9"]),
        ("Paris", "Paris", ["paris.", " Paris\nand more"], ["Paris, France", "Lyon", ""]),
    ],
)
def test_free_text_is_graded_as_a_number_or_by_its_first_line(
    tmp_path: Path, answer: object, gold: str, right: list[str], wrong: list[str]
) -> None:
    task = loaded(tmp_path, {"question": "Q?", "answer": answer})
    (example,) = task.load()
    assert (example.gold_text, example.choices) == (gold, ())
    assert task.grade(task.gold(example), example)
    assert all(task.grade(text, example) for text in right)
    assert not any(task.grade(text, example) for text in wrong)


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n")
    assert len(load_user_task(path).load()) == 1


def test_repeats_with_the_same_answer_count_once(tmp_path: Path) -> None:
    turned = {"question": "Which  flies?", "choices": ["bird", "dog"], "answer": "A"}
    assert len(loaded(tmp_path, GOOD, GOOD, turned).load()) == 1


def test_one_wording_with_other_choices_is_another_question(tmp_path: Path) -> None:
    assert len(loaded(tmp_path, GOOD, {**GOOD, "choices": ["bat", "cow"], "answer": 0}).load()) == 2


def test_signs_tell_questions_apart(tmp_path: Path) -> None:
    assert len(loaded(tmp_path, {"question": "3 + 4?", "answer": 7}, {"question": "3 - 4?", "answer": -1}).load()) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 10² + 1?", "What is 102 + 1?"),
        ("Name the formula of H₂O₂.", "Name the formula of H2O2."),
        ("What is 2 + 1½?", "What is 2 + 11⁄2?"),
        ("Is 𝐯 a vector?", "Is v a vector?"),
        ("How much is 3 mW?", "How much is 3 MW?"),
        ("Is x < 5?", "Is x > 5?"),
    ],
)
def test_questions_that_read_differently_are_two_and_share_a_part(tmp_path: Path, one: str, other: str) -> None:
    first, second = loaded(tmp_path, {"question": one, "answer": "a"}, {"question": other, "answer": "b"}).load()
    assert first.id != second.id
    assert first.group == second.group  # near-duplicates never straddle two parts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Caf\u00e9?", "Cafe\u0301?"),
        ("Which \ufb01sh…", "Which\u00a0fish..."),
        ("Ａ ｏｒ Ｂ", "A or B"),
        ("a\tb", " a  b "),
    ],
)
def test_questions_that_read_the_same_are_one(tmp_path: Path, one: str, other: str) -> None:
    rows = [{"question": question, "answer": "a"} for question in (one, other)]
    assert len(loaded(tmp_path, *rows).load()) == 1
    assert "the question of line 1 again" in refusal(written(tmp_path, rows[0], {**rows[1], "answer": "b"}))


@pytest.mark.parametrize(
    ("one", "other"), [("Paris", " paris."), ("7", "7.0"), (7, "7.00"), ("caf\u00e9", "cafe\u0301")]
)
def test_a_repeat_whose_answer_is_graded_alike_is_no_contradiction(tmp_path: Path, one: object, other: object) -> None:
    assert len(loaded(tmp_path, {"question": "Q?", "answer": one}, {"question": "Q?", "answer": other}).load()) == 1


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("10²", ["10²", "10².", "**10²**"], ["102", "10"]),
        ("C++", ["c++", "`C++`"], ["C", "C#"]),
        ("−x", ["-x"], ["x", "+x"]),
        ("well-known", ["Well known!"], ["known"]),
    ],
)
def test_an_answer_with_another_sign_is_wrong(tmp_path: Path, gold: str, right: list[str], wrong: list[str]) -> None:
    task = loaded(tmp_path, {"question": "Q?", "answer": gold})
    (example,) = task.load()
    assert [task.grade(text, example) for text in (*right, *wrong)] == [True] * len(right) + [False] * len(wrong)


def test_a_choice_is_not_named_by_another_power(tmp_path: Path) -> None:
    task = loaded(tmp_path, {"question": "Q?", "choices": ["102", "7"], "answer": 0})
    (example,) = task.load()
    assert [task.grade(text, example) for text in ("102", "10²")] == [True, False]


def test_a_file_with_exactly_the_rows_asked_for_is_enough(tmp_path: Path) -> None:
    task = loaded(tmp_path, *({**GOOD, "question": f"Which flies, {i}?"} for i in range(12)))
    splits = split(task, support=2, reward=4, test=6, seed=0)
    assert (len(splits.support), len(splits.reward), len(splits.test)) == (2, 4, 6)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Meine Fragen (2).jsonl", "meine-fragen-2"),
        ("gsm8k.jsonl", "gsm8k-file"),
        ("ä.jsonl", "file"),
        ("__x__.jsonl", "x"),
        ("..jsonl", "file"),
        ("a" * 90 + ".jsonl", "a" * 59),
    ],
)
def test_the_name_comes_from_the_file(file: str, name: str) -> None:
    assert task_name(Path(file), {"gsm8k"}) == name


@given(st.text(min_size=1, max_size=100).filter(lambda text: "/" not in text and "\0" not in text))
def test_any_file_name_makes_a_safe_task_name(stem: str) -> None:
    for reserved in ((), {task_name(Path(f"{stem}.jsonl"))}):
        assert ID_PATTERN.match(task_name(Path(f"{stem}.jsonl"), reserved))


def test_a_file_of_as_many_lines_as_are_read_is_read_and_one_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cao.tasks.files.json_files.MAX_ROWS", 3)
    rows = [{"question": f"Why {n}?", "answer": str(n)} for n in range(4)]
    assert len(loaded(tmp_path, *rows[:3]).load()) == 3
    with pytest.raises(InputError, match="more than 3 lines"):
        loaded(tmp_path, *rows)
