"""Files as prompts: they are what a run on the file shows, so that no file drifts from itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cao.errors import InputError
from cao.tasks import get_task
from cao.tasks.base import encoder_text
from cao.tasks.prompt_file import asked_each, read_prompts, read_windows
from tests.cao.tasks.files.data_files import (
    CONVERSATIONAL,
    FILES,
    LETTERED,
    MESSAGES,
    MMLU,
    SHAREGPT,
    SQUAD_TWO,
    Rows,
    array,
    jsonl,
    parquet,
    saved,
    table,
)
from tools.detect_drift.reference import draw_prompts

Write = Callable[[Path, Rows], Path]


def shown(path: Path) -> list[str]:
    return [encoder_text(example) for example in get_task(str(path)).load()]


def prompts(path: Path) -> list[str]:
    return [asked.prompt for asked in read_prompts(path)]


@pytest.mark.parametrize("what", sorted(FILES))
def test_a_files_prompts_are_what_a_run_on_it_shows(tmp_path: Path, what: str) -> None:
    name, write, rows, _ = FILES[what]
    path = write(tmp_path / name, rows)
    found = prompts(path)
    unanswerable = len(SQUAD_TWO) - len(shown(path)) if rows is SQUAD_TWO else 0  # prompts need no answer
    assert found[: len(found) - unanswerable] == shown(path)
    assert [[asked.prompt for asked in window] for window in read_windows(path)] == [found]
    assert sorted(asked.prompt for asked in draw_prompts(str(path))) == sorted(found)


def held(path: Path, rows: Rows) -> Path:
    path.write_text(json.dumps({"data": rows}, indent=1))
    return path


def in_parts(path: Path, rows: Rows) -> Path:
    path.write_text(json.dumps({"train": [{"question": "Another?", "answer": "no"}], "test": rows}))
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("q.jsonl", jsonl),
        ("q", jsonl),
        ("q.json", jsonl),
        ("q.json", array),
        ("q.json", held),
        ("q.json", in_parts),
        ("q.csv", table(",")),
        ("q.csv", table(";")),
        ("q.TSV", table("\t")),
        ("q.parquet", parquet),
        ("q", saved),
    ],
)
def test_one_table_has_the_same_prompts_in_every_format(tmp_path: Path, name: str, write: Write) -> None:
    path = write(tmp_path / name, LETTERED)
    assert prompts(path) == shown(path) == [row["Question"] for row in LETTERED]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda text: bool(text.strip()))
TURNS = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), TEXTS), max_size=4)
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUIET
@given(
    st.lists(TEXTS, min_size=1, max_size=4, unique=True),
    st.sampled_from(["question", "prompt", "instruction", "text", "content", "query", "input"]),
    st.sampled_from(["", "context", "passage", "choices", "options", "answer", "label", "output", "id"]),
    st.lists(TEXTS | st.lists(TEXTS, max_size=3) | st.integers() | st.none(), min_size=4, max_size=4),
    st.sampled_from([("t.jsonl", jsonl), ("t.json", array), ("t.json", held)]),
)
def test_whatever_a_run_reads_are_the_prompts(
    tmp_path: Path, texts: list[str], key: str, other: str, values: list[Any], format_: tuple[str, Write]
) -> None:
    rows = [{key: text} | ({other: value} if other else {}) for text, value in zip(texts, values, strict=False)]
    path = format_[1](tmp_path / format_[0], rows)
    try:
        expected = shown(path)
    except InputError:
        return
    found = prompts(path)
    assert list(dict.fromkeys(prompt for prompt in found if prompt in expected)) == expected


@QUIET
@given(st.lists(st.tuples(TURNS, TEXTS), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_a_chats_earlier_turns_are_in_its_prompt(
    tmp_path: Path, chats: list[tuple[list[tuple[str, str]], str]], as_text: bool, sharegpt: bool
) -> None:
    role, content = ("from", "value") if sharegpt else ("role", "content")
    made = [[{role: who, content: text} for who, text in [*turns, ("user", last)]] for turns, last in chats]
    rows: Rows = [{"conversations": json.dumps(chat) if as_text else chat} for chat in made]
    path = jsonl(tmp_path / "c.jsonl", rows)
    bare = jsonl(tmp_path / "bare.jsonl", made)  # type: ignore[arg-type]  (a chat a line, without an object)
    assert list(dict.fromkeys(prompts(path))) == list(dict.fromkeys(shown(path)))
    assert prompts(bare) == prompts(path)


@pytest.mark.parametrize("rows", [MESSAGES, SHAREGPT, CONVERSATIONAL])
def test_a_chat_in_a_window_or_a_stream_is_the_chat_of_a_file(tmp_path: Path, rows: Rows) -> None:
    expected = shown(jsonl(tmp_path / "c.jsonl", rows))
    (tmp_path / "w.jsonl").write_text(json.dumps(rows[:6]) + "\n" + json.dumps(rows[6:]) + "\n")
    windows = read_windows(tmp_path / "w.jsonl")
    assert [asked.prompt for window in windows for asked in window] == expected
    assert [len(window) for window in windows] == [6, 6]
    assert [asked_each([("here", row)])[0].prompt for row in rows] == expected


def test_a_json_array_is_windows_or_prompts(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    for indent in (None, 1):
        path.write_text(json.dumps([["a", "b"], [{"prompt": "c"}]], indent=indent))
        assert [[asked.prompt for asked in window] for window in read_windows(path)] == [["a", "b"], ["c"]]
        path.write_text(json.dumps(["a", "b", {"prompt": "c"}], indent=indent))
        assert [[asked.prompt for asked in window] for window in read_windows(path, 2)] == [["a", "b"], ["c"]]
    path.write_text('["a"]\n["b", "c"]\n')
    assert [[asked.prompt for asked in window] for window in read_windows(path)] == [["a"], ["b", "c"]]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("t.json", '[\n {"question": "a"},\n', ":1: not JSON, but begins like it"),
        ("t.jsonl", '{\n "question": "a"\n}\n', ":1: not JSON, but begins like it"),
        ("t.json", '{"data": 3}', ":1: expected an array of objects"),
        ("t.csv", "question,answer\na,b\nc\n", ":3: 1 cells, the first line names 2 columns"),
        ("t.csv", "what,that\na,b\n", ":2: expected an object with 'prompt'"),
        ("t.parquet", "PAR1", ": not a Parquet file"),
        ("t.jsonl", '{"prompt": "a", "b": ' + "[" * 3000 + "]" * 3000 + "}", ":1: "),
        (
            "t.json",
            '[{"messages": [{"from": "gpt", "value": "x"}]}]',
            ":1, prompt 1: a chat without a message of",
        ),
    ],
)
def test_what_holds_no_prompts_is_refused_with_its_place(tmp_path: Path, name: str, text: str, reason: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_prompts(path)
    assert str(caught.value).startswith(f"{path}{reason}")


@pytest.mark.parametrize("what", ["arc in parquet", "medqa of bigbio", "letters in a csv", "lists in a tsv"])
def test_choices_and_right_answers_are_those_of_a_run(tmp_path: Path, what: str) -> None:
    name, write, rows, _ = FILES[what]
    path = write(tmp_path / name, rows)
    assert [asked.example for asked in read_prompts(path)] == get_task(str(path)).load()
    assert all(asked.labelled for asked in read_prompts(path))


def test_answers_that_count_from_one_are_read_as_a_run_reads_them(tmp_path: Path) -> None:
    rows = [{**row, "answer": 1 + row["answer"]} for row in MMLU]
    path = jsonl(tmp_path / "t.jsonl", rows)
    assert [asked.example for asked in read_prompts(path)] == get_task(str(path)).load()


@pytest.mark.parametrize(
    "other", [{"options": {"temperature": 1}}, {"options": ["a", "b"], "label": 1}, {"answr": "a"}, {"article": 3}]
)
def test_what_is_no_part_of_a_question_does_not_keep_its_text_from_being_a_prompt(other: dict[str, object]) -> None:
    (asked,) = asked_each([("here", {"prompt": "Why?", **other})])
    assert (asked.prompt, asked.labelled) == ("Why?", False)


def test_which_part_of_a_file_its_prompts_are_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_prompts(in_parts(tmp_path / "q.json", MMLU))
    assert "q.json: the part test was read" in capsys.readouterr().err


def test_a_broken_line_among_objects_is_no_prompt(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"question": "why {n}?"}}\n' for n in range(3)) + "{oops\n")
    with pytest.raises(InputError, match=r"prompts\.jsonl:4: not JSON, but begins like the objects on the other lines"):
        read_prompts(path)
    path.write_text("why?\nhow?\n{oops\n")
    assert [one.prompt for one in read_prompts(path)] == ["why?", "how?", "{oops"]
