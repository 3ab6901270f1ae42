"""The user's own file: what is taken, and what is refused with file, line and reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cao.errors import InputError
from cao.tasks.base import Task
from cao.tasks.question_file import MAX_LINE_BYTES, load_user_task, task_name
from cao.tasks.splits import split
from cao.types import ID_PATTERN

GOOD = {"question": "Which flies?", "choices": ["dog", "bird"], "answer": 1}


def _write(folder: Path, *lines: object, name: str = "my task.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def _load(folder: Path, *lines: object) -> Task:
    return load_user_task(_write(folder, *lines))


def _refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_user_task(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    return message.removeprefix(f"{path}:")


# What is taken


@pytest.mark.parametrize("answer", [1, "B", "b", "bird", " bird "])
def test_an_answer_is_an_index_a_letter_or_a_choice(tmp_path: Path, answer: object) -> None:
    (example,) = _load(tmp_path, {**GOOD, "answer": answer}).load()
    assert (example.choices, example.answer, example.gold_text) == (("dog", "bird"), 1, "bird")


def test_choices_are_asked_by_letter_and_graded(tmp_path: Path) -> None:
    task = _load(tmp_path, {**GOOD, "context": "At the zoo."})
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
    task = _load(tmp_path, {"question": "Q?", "answer": answer})
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
    assert len(_load(tmp_path, GOOD, GOOD, turned).load()) == 1


def test_one_wording_with_other_choices_is_another_question(tmp_path: Path) -> None:
    assert len(_load(tmp_path, GOOD, {**GOOD, "choices": ["bat", "cow"], "answer": 0}).load()) == 2


def test_signs_tell_questions_apart(tmp_path: Path) -> None:
    assert len(_load(tmp_path, {"question": "3 + 4?", "answer": 7}, {"question": "3 - 4?", "answer": -1}).load()) == 2


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
    first, second = _load(tmp_path, {"question": one, "answer": "a"}, {"question": other, "answer": "b"}).load()
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
    assert len(_load(tmp_path, *rows).load()) == 1
    assert "the question of line 1 again" in _refusal(_write(tmp_path, rows[0], {**rows[1], "answer": "b"}))


@pytest.mark.parametrize(
    ("one", "other"), [("Paris", " paris."), ("7", "7.0"), (7, "7.00"), ("caf\u00e9", "cafe\u0301")]
)
def test_a_repeat_whose_answer_is_graded_alike_is_no_contradiction(tmp_path: Path, one: object, other: object) -> None:
    assert len(_load(tmp_path, {"question": "Q?", "answer": one}, {"question": "Q?", "answer": other}).load()) == 1


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
    task = _load(tmp_path, {"question": "Q?", "answer": gold})
    (example,) = task.load()
    assert [task.grade(text, example) for text in (*right, *wrong)] == [True] * len(right) + [False] * len(wrong)


def test_a_choice_is_not_named_by_another_power(tmp_path: Path) -> None:
    task = _load(tmp_path, {"question": "Q?", "choices": ["102", "7"], "answer": 0})
    (example,) = task.load()
    assert [task.grade(text, example) for text in ("102", "10²")] == [True, False]


def test_a_file_with_exactly_the_rows_asked_for_is_enough(tmp_path: Path) -> None:
    task = _load(tmp_path, *({**GOOD, "question": f"Which flies, {i}?"} for i in range(12)))
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


# What is refused


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
        ({"question": "q"}, "'answer' is missing"),
        ({"question": "q", "answer": None}, "'answer' (without choices) must be a text"),
        ({"question": "q", "answer": True}, "'answer' (without choices) must be a text"),
        ({"question": "q", "answer": ""}, "'answer' (without choices) is blank"),
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
    message = _refusal(_write(tmp_path, GOOD, "", line, "{ never reached"))
    assert message.startswith("3: ")
    assert reason in message
    assert "\n" not in message
    assert len(message) < 300


def test_choices_after_free_text_are_refused_too(tmp_path: Path) -> None:
    assert "2: has choices, line 1 has none" in _refusal(_write(tmp_path, {"question": "q", "answer": "a"}, GOOD))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"question": "caf\xe9?", "answer": "a"}\n')
    assert "1: not UTF-8 (byte 18 of the line)" in _refusal(path)


def test_a_line_of_more_than_a_megabyte_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, GOOD, {**GOOD, "question": "q" * MAX_LINE_BYTES})
    assert _refusal(path) == "2: longer than 1,000,000 bytes"


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    assert "the file is empty" in _refusal(path)


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in _refusal(tmp_path / "none.jsonl")
    assert "not a regular file" in _refusal(tmp_path)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("wb") as stream:
        stream.truncate(300_000_000)  # a hole, no real bytes
    assert "larger than 256 MB" in _refusal(path)


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
