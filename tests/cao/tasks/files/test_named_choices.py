"""Which choice an answer names where places, letters, labels, names and texts could say different things."""

from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from cao.tasks.question_file import load_user_task
from tests.cao.tasks.files.data_files import Rows, jsonl, parquet, table
from tests.cao.tasks.question_files import refusal

COLUMNS: Rows = [
    {"question": f"Which is {n}?", "A": "ant", "B": "bee" if n else None, "C": "cat", "D": "dog"} for n in range(6)
]
ASK = "may be indexes as well as texts of choices; say which: --map answer=KEY:text, answer=KEY:0 or answer=KEY:1"


def golds(path: Path, keys: str = "") -> list[str]:
    return [example.gold_text for example in load_user_task(path, keys=keys).load()]


@pytest.mark.parametrize(("answers", "gold"), [("CBAD", "cat"), ("2103", "cat"), ("3214", "cat"), ("cbad", "cat")])
def test_an_empty_column_keeps_its_letter_and_its_place(tmp_path: Path, answers: str, gold: str) -> None:
    rows = [{**row, "answer": answers[n]} for n, row in enumerate(COLUMNS[:4])]
    for path in (table(",")(tmp_path / "t.csv", rows), jsonl(tmp_path / "t.jsonl", rows)):
        first, *others = load_user_task(path).load()
        assert (first.gold_text, first.choices, first.answer) == (gold, ("ant", "cat", "dog"), 1)
        assert [example.gold_text for example in others] == ["bee", "ant", "dog"]


def test_an_answer_that_names_an_empty_column_is_refused(tmp_path: Path) -> None:
    rows = [{**row, "answer": "B"} for row in COLUMNS]
    assert refusal(table(",")(tmp_path / "t.csv", rows)).startswith("2: answer 'B' names a choice that is empty")


def test_columns_that_are_named_in_another_order_keep_their_letters(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "t.jsonl", [{**row, "answer": "A"} for row in COLUMNS])
    assert golds(path, "choices=D+A+C") == ["ant"] * 6


@pytest.mark.parametrize("write", [jsonl, parquet])
@pytest.mark.parametrize("answers", ["CA", [2, 0], [3, 1]])
def test_an_object_with_an_empty_entry_keeps_its_places(tmp_path: Path, write: Any, answers: Any) -> None:
    options = ({"A": "ant", "B": None, "C": "cat"}, {"A": "ant", "B": "bee", "C": "cat"})
    rows = [{"question": f"{n}?", "options": options[n], "answer": answers[n]} for n in range(2)]
    assert golds(write(tmp_path / ("t.parquet" if write is parquet else "t.jsonl"), rows)) == ["cat", "ant"]


@pytest.mark.parametrize(
    ("labels", "answers", "gold"),
    [
        ("bac", ["A"], "second"),
        ("BAC", ["a"], "second"),
        ("bac", ["(A)"], "second"),
        ("3124", [1, 4], "second"),
        ("3124", ["1", "4"], "second"),
        (["03", "01", "02"], [1], "second"),
        (["option_b", "option_a", "option_c"], ["A"], "second"),
        (["p1", "p2", "p3"], ["B"], "second"),
    ],
)
def test_a_stated_label_counts_before_the_place(tmp_path: Path, labels: Any, answers: Any, gold: str) -> None:
    texts = ["first", "second", "third", "fourth"][: len(labels)]
    listed = [{"label": label, "text": text} for label, text in zip(labels, texts, strict=True)]
    objects = dict(zip(labels, texts, strict=True))
    for choices in (listed, objects, {"label": list(labels), "text": texts}):
        rows = [{"question": f"{n}?", "options": choices, "answer": answer} for n, answer in enumerate(answers)]
        assert golds(jsonl(tmp_path / "t.jsonl", rows))[0] == gold


@pytest.mark.parametrize(("labels", "answer"), [("ACB", 1), ("312", 0), ("ba", "C"), ("312", "B")])
def test_no_place_is_taken_among_labels_in_another_order(tmp_path: Path, labels: str, answer: object) -> None:
    choices = {label: f"text {label}" for label in labels}
    path = jsonl(tmp_path / "t.jsonl", [{"question": "q", "choices": choices, "answer": answer}])
    assert "may be a place or a label" in refusal(path) or "names none of" in refusal(path)
    if isinstance(answer, int):
        assert golds(path, "answer=answer:0") == [f"text {labels[answer]}"]


NUMBERS: Rows = [
    {"question": f"How many doors has house {n}?", "choices": choices, "answer": answer}
    for n, (choices, answer) in enumerate([([4, 1, 3, 2], 3), ([2, 1, 3, 4], 2), ([1, 2, 3, 4], 4)])
]


@pytest.mark.parametrize(
    ("keys", "gold"), [("answer=answer:text", ["3", "2", "4"]), ("answer=answer:1", ["3", "1", "4"])]
)
def test_numbers_that_may_be_indexes_or_texts_are_refused_until_it_is_said(
    tmp_path: Path, keys: str, gold: list[str]
) -> None:
    spread = [{"question": row["question"], **dict(zip("ABCD", row["choices"], strict=True))} for row in NUMBERS]
    columns = [{**row, "answer": NUMBERS[n]["answer"]} for n, row in enumerate(spread)]
    for path in (
        jsonl(tmp_path / "lists.jsonl", NUMBERS),
        table(",")(tmp_path / "lists.csv", NUMBERS),
        jsonl(tmp_path / "columns.jsonl", columns),
        table(",")(tmp_path / "columns.csv", columns),
    ):
        assert ASK in refusal(path)
        assert golds(path, keys) == gold


@pytest.mark.parametrize(
    ("choices", "answers", "gold"),
    [
        ([10, 20, 30], [20, 30], ["20", "30"]),  # no index
        ([0.5, 1, 2], [0.5, 1], ["0.5", "1"]),
        ([7, 1, 2], [0, 1], ["7", "1"]),  # 0 is no text
        ([1, 2, 3], [1, 3], ["1", "3"]),  # the text is the index from 1
        (["1", "2", "one"], [1, "one"], ["1", "one"]),  # another answer is a text
    ],
)
def test_numbers_that_can_be_one_thing_only_are_read_alike_in_any_format(
    tmp_path: Path, choices: list[object], answers: list[object], gold: list[str]
) -> None:
    rows = [{"question": f"{n}?", "choices": choices, "answer": answer} for n, answer in enumerate(answers)]
    assert golds(jsonl(tmp_path / "t.jsonl", rows)) == gold
    assert golds(table(",")(tmp_path / "t.csv", rows)) == gold


def test_a_right_answer_beside_wrong_ones_is_a_text(tmp_path: Path) -> None:
    rows: Rows = [{"question": f"{n}?", "correct_answer": 2, "distractor1": 1, "distractor2": 0} for n in range(3)]
    assert golds(jsonl(tmp_path / "t.jsonl", rows)) == ["2"] * 3


def classified(path: Path, names: list[str], label: int) -> Path:
    kinds = Features(
        {key: Value("string") for key in ("question", "option1", "option2")} | {"label": ClassLabel(names=names)}
    )
    rows = [{"question": f"{n}?", "option1": "one", "option2": "two", "label": label} for n in range(3)]
    Dataset.from_list(rows, features=kinds).to_parquet(str(path))
    return path


@pytest.mark.parametrize(
    ("names", "gold"),
    [
        (["two", "one"], "two"),
        (["two", "one", "both"], "two"),
        (["one", "two"], "one"),
        (["option1", "option2"], "one"),
    ],
)
def test_names_of_numbers_that_are_the_choices_texts_say_which(tmp_path: Path, names: list[str], gold: str) -> None:
    assert golds(classified(tmp_path / "t.parquet", names, 0)) == [gold] * 3


def test_names_of_numbers_that_leave_it_open_are_refused(tmp_path: Path) -> None:
    assert "stands for 'both'" in refusal(classified(tmp_path / "t.parquet", ["two", "both", "one"], 1))
    assert "may be a place or a label" in refusal(classified(tmp_path / "u.parquet", ["1", "0"], 1))
