"""Cells of CSV files: what stands in brackets is a list where one is expected, and a text elsewhere."""

import csv
from pathlib import Path

import pytest

from cao.tasks.question_file import load_user_task
from cao.types import Example
from tests.cao.tasks.question_files import refusal

CHAT = "[{'role': 'user', 'content': 'Which flies?'},{'role': 'assistant', 'content': 'bird'}]"
SQUAD = "{'text': ['bird', 'a bird'], 'answer_start': [3, 1]}"


def cells(folder: Path, **columns: str) -> Path:
    path = folder / "t.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, columns.values()])
    return path


def read(path: Path) -> Example:
    (example,) = load_user_task(path).load()
    return example


@pytest.mark.parametrize("answer", ["[-1, 0]", '{"text": "v0", "n": 0}', "['a', 'b']", "[1 2]", "[x, y)", "{x}{y}"])
def test_a_free_answer_in_brackets_is_a_text(tmp_path: Path, answer: str) -> None:
    example = read(cells(tmp_path, question="Sort 0 and -1", answer=answer))
    assert (example.gold_text, example.accepted) == (answer, ())


def test_questions_and_single_choices_in_brackets_are_texts(tmp_path: Path) -> None:
    example = read(cells(tmp_path, question="[0, 1, 2]", A="[0]", B="[1, 2]", answer="[1, 2]"))
    assert (example.question, example.choices, example.gold_text) == ("[0, 1, 2]", ("[0]", "[1, 2]"), "[1, 2]")


@pytest.mark.parametrize("key", ["answer", "answers"])
@pytest.mark.parametrize("cell", [SQUAD, '{"value": "bird", "aliases": ["a bird"]}'])
def test_several_right_answers_in_a_cell_are_read(tmp_path: Path, key: str, cell: str) -> None:
    example = read(cells(tmp_path, question="Which flies?", **{key: cell}))
    assert (example.gold_text, example.accepted) == ("bird", ("a bird",))


@pytest.mark.parametrize("cell", ["['bird', 'a bird']", '["bird", "a bird"]', "[{'text': 'bird'}, {'text': 'a bird'}]"])
def test_a_list_of_answers_is_read(tmp_path: Path, cell: str) -> None:
    assert read(cells(tmp_path, question="Which flies?", answers=cell)).accepted == ("a bird",)


def test_a_chat_in_a_cell_is_read(tmp_path: Path) -> None:
    example = read(cells(tmp_path, messages=CHAT))
    assert (example.question, example.gold_text) == ("Which flies?", "bird")


@pytest.mark.parametrize(
    "columns",
    [
        {"answer": "['Paris' 'City']"},
        {"answers": "['Paris'\n 'City']"},
        {"answer": "{'text': array(['Paris'], dtype=object), 'answer_start': array([3])}"},
        {"answers": "[1 2 3]"},
        {"choices": "['a' 'b']", "answer": "0"},
        {"choices": "['a', 'b' 'c']", "answer": "0"},
        {"choices": "[nan, 'b']", "answer": "0"},
        {"context": CHAT.replace(",{", "\n {"), "answer": "x"},
        {"prompt": CHAT.replace(",{", "\n {")},
    ],
)
def test_what_numpy_and_pandas_print_is_refused_with_what_to_do(tmp_path: Path, columns: dict[str, str]) -> None:
    asked = {} if "prompt" in columns else {"question": "Which?"}
    message = refusal(cells(tmp_path, **asked, **columns))
    assert message.startswith("2: ")
    assert message.endswith("(numpy and pandas print lists so; write the file as JSONL or Parquet)")


def test_a_column_that_is_not_read_may_hold_anything(tmp_path: Path) -> None:
    assert read(cells(tmp_path, question="Which?", answer="x", extra="['a' 'b']")).gold_text == "x"
