"""Labels of a whole file: which become choices, which are refused, and which rows have none."""

from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from cao.tasks.base import Task
from cao.tasks.question_file import load_user_task
from tests.cao.tasks.files.data_files import Rows, jsonl, parquet, table
from tests.cao.tasks.question_files import refusal

WRITERS = {"t.csv": table(","), "t.jsonl": jsonl, "t.parquet": parquet}
LEFT_OUT = "1 row was left out because it had no answer"


def labelled(labels: list[Any], key: str = "label") -> Rows:
    return [{"question": f"Film {n}?", key: label} for n, label in enumerate(labels)]


def left_out(task: Task) -> str:
    assert task.reading is not None
    (note,) = task.reading.notes
    return note


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("key", ["answer", "label"])
def test_true_and_false_become_no_and_yes_in_any_format(tmp_path: Path, name: str, key: str) -> None:
    examples = load_user_task(WRITERS[name](tmp_path / name, labelled([False, True, True, False], key))).load()
    assert {example.choices for example in examples} == {("no", "yes")}
    assert [example.gold_text for example in examples] == ["no", "yes", "yes", "no"]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("labels", [[0, 1], [0.0, 1.0], [-1, 0, 1]])
def test_numbers_that_nothing_names_are_refused_in_any_format(tmp_path: Path, name: str, labels: list[float]) -> None:
    assert "holds numbers that nothing names" in refusal(WRITERS[name](tmp_path / name, labelled(labels * 4)))


@pytest.mark.parametrize("word", ["nan", "NaN", "N/A", "NA", "null", "None", "", " ", None])
def test_a_word_for_a_missing_label_is_no_label(tmp_path: Path, word: str | None) -> None:
    rows = labelled(["good", "bad"] * 4 + [word])
    for name, write in (("t.csv", table(",")), ("t.jsonl", jsonl)):
        task = load_user_task(write(tmp_path / name, rows))
        assert {example.choices for example in task.load()} == {("bad", "good")}
        assert left_out(task).startswith(LEFT_OUT)
    assert load_user_task(jsonl(tmp_path / "f.jsonl", labelled(["Paris", "NA"], "answer"))).load()[1].gold_text == "NA"


@pytest.mark.parametrize("absent", [None, "", " ", [], [""], {"text": []}])
@pytest.mark.parametrize("rest", [{}, {"choices": ["Rome", "Oslo"]}])
def test_a_row_without_an_answer_is_left_out_however_that_is_written(tmp_path: Path, absent: Any, rest: Any) -> None:
    rows = [{**row, **rest} for row in labelled(["Rome", absent, "Oslo"], "answer")]
    for row in (rows[1], {key: value for key, value in rows[1].items() if key != "answer"}):
        task = load_user_task(jsonl(tmp_path / "t.jsonl", [rows[0], row, rows[2]]))
        assert [example.gold_text for example in task.load()] == ["Rome", "Oslo"]
        assert left_out(task) == f"{LEFT_OUT} (line 2)"


def test_an_empty_cell_and_a_number_that_is_none_are_no_answers(tmp_path: Path) -> None:
    rows = [{**row, "A": "x", "B": "y"} for row in labelled([1.0, None, 0.0], "answer")]
    for name, write in (("t.csv", table(",")), ("t.parquet", parquet)):
        task = load_user_task(write(tmp_path / name, rows))
        assert [example.gold_text for example in task.load()] == ["y", "x"]
        assert left_out(task).startswith(LEFT_OUT)


def test_minus_one_beside_named_labels_is_no_answer(tmp_path: Path) -> None:
    kinds = Features({"question": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    path = tmp_path / "t.parquet"
    Dataset.from_list(labelled([1, -1, 0]), features=kinds).to_parquet(str(path))
    task = load_user_task(path)
    assert [example.gold_text for example in task.load()] == ["good", "bad"]
    assert left_out(task) == f"{LEFT_OUT} (row 2)"


def test_the_names_beside_numbered_classes_become_the_choices(tmp_path: Path) -> None:
    names = ("neg", "pos")
    rows: Rows = [{"text": f"It was {n} times.", "label": n % 2, "label_text": names[n % 2]} for n in range(8)]
    for path in (jsonl(tmp_path / "t.jsonl", rows), table(",")(tmp_path / "t.csv", rows)):
        examples = load_user_task(path).load()
        assert {example.choices for example in examples} == {names}
        assert [example.gold_text for example in examples] == [row["label_text"] for row in rows]


def test_a_reply_that_is_marked_as_wrong_is_no_right_answer(tmp_path: Path) -> None:
    rows: Rows = [{"prompt": f"How many is {n}?", "response": f"{n}", "correct": n != 3} for n in range(6)]
    for path in (jsonl(tmp_path / "t.jsonl", rows), table(",")(tmp_path / "t.csv", rows)):
        task = load_user_task(path)
        assert [example.gold_text for example in task.load()] == ["0", "1", "2", "4", "5"]
        assert left_out(task).startswith("1 row was left out because it held a reply that is marked as wrong")
