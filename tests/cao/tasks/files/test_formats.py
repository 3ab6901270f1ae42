"""Files that people have: each is read as what it is, and what was guessed is said."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cao.reading import FileReading
from cao.tasks.base import Task
from cao.tasks.question_file import load_user_task
from tests.cao.tasks.files.data_files import (
    ALPACA,
    CONVERSATIONAL,
    FILES,
    MEDQA,
    MESSAGES,
    OWN_ID,
    SHAREGPT,
    SQUAD,
    N,
    Rows,
    jsonl,
    parquet,
)

RIGHT = {
    "medqa as the hub exports it": "Ampicillin",
    "medqa of bigbio": "Ulna",
    "arc as the hub exports it": "bird",
    "openbookqa": "plants",
    "hellaswag": "He flies.",
    "piqa": "Turn the lid.",
    "boolq": "yes",
    "winogrande": "Eve",
    "sciq": "water",
    "medmcqa in parquet": "a1",
    "social iqa": "sad",
    "gsm8k": "0",
    "squad's own file": "Rollo",
    "alpaca": "0 oiseaux",
    "prompt and completion": "City 0",
    "messages": "1",
    "sharegpt": "Bird 0",
    "prompt and completion of messages": "Blue.",
    "texts and labels": "negative",
    "texts and class labels": "negative",
    "triviaqa": "Twain",
    "letters in a csv": "bird",
    "numbers in a csv of semicolons": "dog",
}


def reading_of(task: Task) -> FileReading:
    assert task.reading is not None
    return task.reading


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_people_have_is_read(tmp_path: Path, what: str) -> None:
    name, write, rows, (question, choices, answer) = FILES[what]
    task = load_user_task(write(tmp_path / name, rows))
    keys, examples = reading_of(task).keys, task.load()
    assert (keys["question"], keys.get("choices", ""), keys["answer"]) == (question, choices, answer)
    assert len(examples) == N
    assert task.labelled
    assert all(task.grade(task.gold(example), example) for example in examples)
    assert {example.gold_text for example in examples if example.choices} <= {c for e in examples for c in e.choices}
    if what in RIGHT:
        assert examples[0].gold_text == RIGHT[what]


@pytest.mark.parametrize(("yes", "no", "choices"), [("yes", "no", ("no", "yes")), ("Yes", "No", ("No", "Yes"))])
def test_answers_that_are_yes_or_no_are_choices(tmp_path: Path, yes: str, no: str, choices: tuple[str, ...]) -> None:
    rows = [{"question": f"Is {n} even?", "answer": no if n % 2 else yes} for n in range(60)]
    examples = load_user_task(jsonl(tmp_path / "even.jsonl", rows)).load()
    assert {example.choices for example in examples} == {choices}
    assert [example.gold_text for example in examples[:2]] == [yes, no]
    task = load_user_task(jsonl(tmp_path / "odd.jsonl", [*rows, {"question": "Is 7?", "answer": "perhaps"}]))
    assert not task.load()[0].choices


def test_rows_that_say_the_same_are_told(tmp_path: Path) -> None:
    rows: Rows = [{"question": f"How much is {n} and 1?", "answer": str(n + 1)} for n in range(60)]
    assert reading_of(load_user_task(jsonl(tmp_path / "once.jsonl", rows))).plain
    again = reading_of(load_user_task(jsonl(tmp_path / "twice.jsonl", [*rows, *rows[:30]])))
    assert not again.plain
    assert again.sentences()[0].startswith("JSONL: 60 questions of 90 rows")


def test_as_many_files_as_were_tried_are_there() -> None:
    assert len(FILES) >= 27


@pytest.mark.parametrize(
    ("what", "answers"),
    [
        ("hellaswag", "indexes from 0"),
        ("winogrande", "indexes from 1"),
        ("social iqa", "indexes from 1"),
        ("arc as the hub exports it", "labels, letters"),
        ("medqa as the hub exports it", "texts of choices"),
        ("letters in a csv", "letters"),
        ("boolq", "yes or no"),
        ("sharegpt", "texts"),
    ],
)
def test_it_is_said_what_answers_are_given_as(tmp_path: Path, what: str, answers: str) -> None:
    name, write, rows, _ = FILES[what]
    assert set(reading_of(load_user_task(write(tmp_path / name, rows))).answers.split(", ")) == set(answers.split(", "))


def test_what_was_guessed_and_what_was_not_read_is_said(tmp_path: Path) -> None:
    reading = reading_of(load_user_task(jsonl(tmp_path / "m.jsonl", MEDQA)))
    assert reading.guessed
    assert set(reading.ignored) == {"meta_info", "answer_idx", "metamap_phrases"}
    first, second = reading.sentences()
    assert "question=question, choices=options, answer=answer, guessed (--map changes it)" in first
    assert "metamap_phrases" in second
    assert not reading_of(load_user_task(jsonl(tmp_path / "o.jsonl", OWN_ID))).guessed


def test_earlier_turns_and_system_texts_are_context(tmp_path: Path) -> None:
    name, write, rows, _ = FILES["messages"]
    assert load_user_task(write(tmp_path / name, rows)).load()[0].prompt == "Be brief.\nHow much is 0 + 1?"


def test_the_turns_before_the_last_question_are_context_and_its_reply_is_the_answer(tmp_path: Path) -> None:
    said = (
        ("user", "A finch has {} eggs."),
        ("assistant", "Noted."),
        ("user", "How many are {} more?"),
        ("assistant", "9"),
    )
    rows: Rows = [{"messages": [{"role": role, "content": text.format(n)} for role, text in said]} for n in range(3)]
    example = load_user_task(jsonl(tmp_path / "t.jsonl", rows)).load()[1]
    assert (example.context, example.question) == (
        "user: A finch has 1 eggs.\nassistant: Noted.",
        "How many are 1 more?",
    )
    assert example.gold_text == "9"


def test_an_alpaca_input_stands_below_its_instruction(tmp_path: Path) -> None:
    assert load_user_task(jsonl(tmp_path / "a.jsonl", ALPACA)).load()[0].question == "Translate to French.\n\n0 birds"


def test_any_of_several_answers_is_right(tmp_path: Path) -> None:
    task = load_user_task(jsonl(tmp_path / "s.jsonl", SQUAD))
    example = task.load()[0]
    assert [task.grade(text, example) for text in ("rollo.", "The Viking Rollo", "Harald")] == [True, True, False]


def test_an_unanswerable_question_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    name, write, rows, _ = FILES["squad 2 in parquet"]
    reading = reading_of(load_user_task(write(tmp_path / name, rows)))
    assert reading.questions == N
    assert "1 row was left out because it had no answer (row 13)" in reading.notes


def test_the_part_of_a_saved_data_set_is_named(tmp_path: Path) -> None:
    name, write, rows, _ = FILES["mmlu by save_to_disk, with parts"]
    folder = write(tmp_path / name, rows)
    assert "the part test was read" in reading_of(load_user_task(folder)).notes[0]
    assert reading_of(load_user_task(folder / "train")).notes == ()


@pytest.mark.parametrize(
    ("parts", "read"),
    [
        ({"train": 3, "test": 2}, "test"),
        ({"train": 3, "validation": 2}, "validation"),
        ({"test": 0, "train": 3}, "train"),
        ({"dev": 3, "train": 2}, "train"),
    ],
)
def test_of_a_json_object_with_parts_the_one_that_a_saved_data_set_would_give_is_read_and_named(
    tmp_path: Path, parts: dict[str, int], read: str
) -> None:
    rows = {part: [(f"{part} {n}?", f"a{n}") for n in range(count)] for part, count in parts.items()}
    held = {
        part: [{"question": question, "answer": gold} for question, gold in of_part] for part, of_part in rows.items()
    }
    path = tmp_path / "parts.json"
    path.write_text(json.dumps(held))
    task = load_user_task(path)
    assert [example.question for example in task.load()] == [row["question"] for row in held[read]]
    (other,) = parts.keys() - {read}
    assert reading_of(task).notes == (f"the part {read} was read; save another one as a file to read that ({other})",)


def test_lists_beside_the_rows_are_no_parts(tmp_path: Path) -> None:
    path = tmp_path / "viewer.json"
    path.write_text(json.dumps({"features": [{"name": "question"}], "rows": [{"row": {"question": "Why?"}}]}))
    assert reading_of(load_user_task(path)).notes == ()


@pytest.mark.parametrize("write", [jsonl, parquet])
@pytest.mark.parametrize("rows", [MESSAGES, SHAREGPT, CONVERSATIONAL])
def test_a_chat_that_lies_as_json_text_is_a_chat(
    tmp_path: Path, write: Callable[[Path, Rows], Path], rows: Rows
) -> None:
    text = [
        {key: json.dumps(value) if isinstance(value, list) else value for key, value in row.items()} for row in rows
    ]
    name = "chats.parquet" if write is parquet else "chats.jsonl"
    (tmp_path / "lists").mkdir()
    expected = load_user_task(write(tmp_path / "lists" / name, rows)).load()
    assert load_user_task(write(tmp_path / name, text)).load() == expected


@pytest.mark.parametrize(
    "text", ["[{", '[{"role": "user"', '[{"a": 1}]', "[" * 5000, '[{"role": "user", "role": "user"}]']
)
def test_a_text_that_is_no_chat_stays_a_text(tmp_path: Path, text: str) -> None:
    path = jsonl(tmp_path / "t.jsonl", [{"prompt": text}])
    assert [example.prompt for example in load_user_task(path).load()] == [text]


def test_an_array_of_texts_is_prompts_without_answers(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(["First?", "Second?"], indent=1))
    task = load_user_task(path)
    assert [example.prompt for example in task.load()] == ["First?", "Second?"]
    assert not task.labelled


@pytest.mark.parametrize(
    ("keys", "gold"),
    [
        ("question=ask,choices=one+two,answer=good", "x"),
        ("question=ask,choices=one+two,answer=good:1", "x"),
        ("question=ask,choices=,answer=one", "x"),
        ("question=ask+note,choices=two+one,answer=good", "y"),
    ],
)
def test_keys_that_the_user_names_are_read(tmp_path: Path, keys: str, gold: str) -> None:
    rows: Rows = [{"ask": "Q?", "one": "x", "two": "y", "good": 1, "note": "n"}]
    if keys.endswith("good"):
        rows[0]["good"] = "A"
    task = load_user_task(jsonl(tmp_path / "t.jsonl", rows), keys=keys)
    assert task.load()[0].gold_text == gold
    assert not reading_of(task).guessed


def test_prompts_without_answers_are_a_task_without_labels(tmp_path: Path) -> None:
    lines = tmp_path / "prompts.txt"
    lines.write_text("First?\n\nSecond?\n")
    chats: Rows = [{"messages": [{"role": "user", "content": f"Q{n}?"}]} for n in range(3)]
    hidden: Rows = [{"question": f"Q{n}?", "choices": ["a", "b"], "label": ""} for n in range(3)]
    for path, count in (
        (lines, 2),
        (jsonl(tmp_path / "c.jsonl", chats), 3),
        (jsonl(tmp_path / "h.jsonl", hidden), 3),
    ):
        task = load_user_task(path)
        assert not task.labelled
        assert len(task.load()) == count
        assert reading_of(task).answers == "none"
