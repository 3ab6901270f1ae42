"""The user's own file: what is refused with file, line and reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cao.errors import InputError
from cao.tasks.files.rows import MAX_LINE_BYTES
from cao.tasks.question_file import load_user_task
from tests.cao.tasks.question_files import GOOD, refusal, written


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON: "),
        ("[1, 2]", "expected one JSON object"),
        ('"text"', "expected one JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"question": "q", "question": "r", "answer": "a"}', "key 'question' appears more than once"),
        ('{"question": "q", "answer": NaN}', "NaN is not a number"),
        ('{"question": "q", "answer": -Infinity}', "-Infinity is not a number"),
        ('{"question": "q", "answer": 1e400}', "more than 30 digits"),
        ('{"question": "q", "answer": 1e99999999999999999999}', "more than 30 digits"),
        ('{"question": "q", "answer": ' + "9" * 10_000 + "}", "more than 30 digits"),
        ('{"question": "\\ud800", "answer": "a"}', "surrogate"),
        ({"answer": 0, "choices": ["x", "y"]}, "'question' is missing"),
        ({**GOOD, "question": " \n"}, "'question' is blank"),
        ({**GOOD, "question": 7}, "'question' must be a text"),
        ({**GOOD, "context": ["p"]}, "'context' must be a text"),
        ({**GOOD, "choises": []}, "unknown key 'choises'"),
        ({"question": "q", "answer": True}, "'answer' (without choices) must be a text"),
        ({"question": "q", "answer": "9 = 9 ####"}, "the answer behind #### is blank"),
        ({**GOOD, "answer": 2}, "answer 2 is out of range for 2 choices"),
        ({**GOOD, "answer": -1}, "answer -1 is out of range"),
        ({**GOOD, "answer": 0.5}, "answer 0.5 is out of range"),
        ({**GOOD, "answer": True}, "'answer' must be an index 0 to 1"),
        ({**GOOD, "answer": "C"}, "answer 'C' names none of the 2 choices"),
        ({**GOOD, "answer": "cow"}, "answer 'cow' names none of the 2 choices"),
        (
            {**GOOD, "choices": ["B", "A"], "answer": "A"},
            "is the letter of one choice and the text of another",
        ),
        ({**GOOD, "choices": ["x", " x "]}, "the choice 'x' appears more than once"),
        ({**GOOD, "choices": ["x", ""]}, "choice 1 is blank"),
        ({**GOOD, "choices": ["x", 3]}, "choice 1 must be a text"),
        ({**GOOD, "choices": ["x"]}, "'choices' must be a list of 2 to 26 texts"),
        ({**GOOD, "choices": [str(i) for i in range(27)]}, "'choices' must be a list of 2 to 26 texts"),
        ({**GOOD, "choices": "xy"}, "'choices' must be a list"),
        ({**GOOD, "choices": None}, "'choices' must be a list"),
        ({"question": "q", "answer": "free"}, "has no choices, line 1 has some"),
        ({**GOOD, "answer": 0}, "the question of line 1 again with another answer ('dog', there 'bird')"),
    ],
)
def test_a_bad_line_is_named_with_its_reason(tmp_path: Path, line: object, reason: str) -> None:
    message = refusal(written(tmp_path, GOOD, "", line, "{ never reached"))
    assert message.startswith("3: ")
    assert reason in message
    assert "\n" not in message
    assert len(message) < 300


def test_choices_after_free_text_are_refused_too(tmp_path: Path) -> None:
    assert "2: has choices, line 1 has none" in refusal(written(tmp_path, {"question": "q", "answer": "a"}, GOOD))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"question": "caf\xe9?", "answer": "a"}\n')
    assert "1: not UTF-8 (byte 18 of the line)" in refusal(path)


def test_a_line_of_more_than_a_megabyte_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD, {**GOOD, "question": "q" * MAX_LINE_BYTES})
    assert refusal(path) == "2: longer than 1,000,000 bytes"


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    assert "the file has no questions" in refusal(path)


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.jsonl")
    assert "not a regular file" in refusal(tmp_path)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("wb") as stream:
        stream.truncate(300_000_000)  # a hole, no real bytes
    assert "larger than 256 MB" in refusal(path)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["question", "answer", "x"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["question", "choices", "answer", "context", "extra"]), _json))
def test_any_object_is_taken_or_refused_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("any") / "t.jsonl"
    path.write_text(json.dumps(row) + "\n")
    try:
        task = load_user_task(path)
    except InputError as error:
        refusal = str(error)
    else:
        (example,) = task.load()
        assert task.grade(task.gold(example), example)
        return
    assert refusal.startswith(f"{path}:1: ")
