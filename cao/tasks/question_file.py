"""A user's own task: a JSONL file, checked to the last line before anything is computed.

One object a line: ``question``, ``choices`` (a list of different texts) and ``answer`` (a 0-based index, a
letter, or a choice's text), or ``question`` and ``answer`` (text or number; of a worked answer that ends in
``#### 18`` only the end counts). ``context`` is optional, other keys are refused: a misspelt ``choises``
would silently turn a question into free text. One file holds one kind, because one protocol and one reward
serve the whole task. Repeats of a question with the same answer are dropped, with another answer they are an
error; questions are the same if they read the same, so case, signs and superscripts tell them apart.
"""

import json
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from cao.errors import InputError
from cao.tasks.base import LETTERS, Task, answer_form, as_read, example_id, grade_letter, lettered, plain, read_id
from cao.tasks.numerals import as_number, stated_number
from cao.types import Example

MAX_LINE_BYTES = 1_000_000
MAX_FILE_BYTES = 256_000_000
MAX_DIGITS = 30
_KEYS = {"question", "choices", "answer", "context"}


class _BadLineError(ValueError):
    """Why a line is refused."""


def load_user_task(path: Path, reserved: Container[str] = ()) -> Task:
    """Read and check a file and return it as a task, named after the file.

    Args:
        path: the JSONL file.
        reserved: names that the task may not take.

    Raises:
        InputError: the file cannot be read, or a line is wrong; the message is ``FILE:LINE: reason``.
    """
    examples = _read(path)
    name = task_name(path, reserved)
    numeric = all(as_number(example.gold_text) is not None for example in examples)
    free = not examples[0].choices
    return Task(
        name=name,
        title=path.name,
        source=f"the user's file {path.name}",
        load=lambda: list(examples),
        ask=(lambda example: plain(example.prompt)) if free else lettered,
        grade=grade_text if free else grade_letter,
        gold=(lambda example: example.gold_text) if free else (lambda example: LETTERS[example.answer]),
        max_new_tokens=256 if free and numeric else 48 if free else 16,
        stop=("\nQuestion:",) if free and numeric else ("\nQuestion:", "\n\n"),
        has_train=False,
    )


def task_name(path: Path, reserved: Container[str] = ()) -> str:
    """Return a task name made from a file's: lower case, other signs as hyphens, at most 64 characters."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_")[:59].rstrip("-_") or "file"
    return f"{plain}-file" if plain in reserved else plain


def grade_text(text: str, example: Example) -> bool:
    """Judge a free text: by its stated number if the gold answer is one, else by its first line."""
    gold = as_number(example.gold_text)
    if gold is not None:
        return stated_number(text) == gold
    return answer_form(next((line for line in text.splitlines() if line.strip()), "")) == answer_form(example.gold_text)


@dataclass(frozen=True)
class _Line:
    number: int
    example: Example

    @property
    def key(self) -> str:
        return read_id(self.example.context, self.example.question, *sorted(self.example.choices))


def _read(path: Path) -> list[Example]:
    seen: dict[str, _Line] = {}
    first: _Line | None = None
    for number, raw in _lines(path):
        try:
            line = _Line(number, _example(_decode(raw)))
            first = first or line
            _same_kind(first, line)
            _no_contradiction(seen.setdefault(line.key, line), line)
        except _BadLineError as error:
            raise InputError(f"{path}:{number}: {error}") from None
    if first is None:
        raise InputError(f"{path}: the file is empty; each line is an object with question, choices and answer")
    return [line.example for line in seen.values()]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number and content of each line that is not blank; the byte-order mark is dropped."""
    try:
        if not path.is_file():
            raise InputError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: larger than {MAX_FILE_BYTES // 1_000_000} MB; give a sample of it")
        with path.open("rb") as stream:
            number = 0
            while raw := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    raise InputError(f"{path}:{number}: longer than {MAX_LINE_BYTES:,} bytes")
                content = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
                if content.strip():
                    yield number, content
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _decode(raw: bytes) -> dict[str, object]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _BadLineError(f"not UTF-8 (byte {error.start + 1} of the line)") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_no_repeats,
            parse_constant=_no_constant,
            parse_int=_number,
            parse_float=_number,
        )
    except _BadLineError:
        raise
    except json.JSONDecodeError as error:
        raise _BadLineError(f"not JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise _BadLineError("not JSON that can be read: nested too deep") from None
    if not isinstance(value, dict):
        raise _BadLineError("expected one JSON object with question, choices and answer")
    unknown = sorted(set(value) - _KEYS)
    if unknown:
        raise _BadLineError(f"unknown key {unknown[0][:40]!r}; known are answer, choices, context, question")
    return value


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise _BadLineError(f"key {next(key for key in keys if keys.count(key) > 1)[:40]!r} appears more than once")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise _BadLineError(f"{name} is not a number that JSON knows")


def _number(text: str) -> Decimal:
    """Return a JSON number as it is written: floats would round it, and integers have no bound."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("Infinity")
    if not number.is_finite() or len(text) > MAX_DIGITS or abs(number.adjusted()) > MAX_DIGITS:
        raise _BadLineError(f"the number {text[:MAX_DIGITS]}… has more than {MAX_DIGITS} digits")
    return number


def _example(row: dict[str, object]) -> Example:
    question = _text(row, "question")
    context = _text(row, "context") if row.get("context") is not None else ""
    if "answer" not in row:
        raise _BadLineError("'answer' is missing")
    choices = _choices(row["choices"]) if "choices" in row else ()
    answer = _index(row["answer"], choices) if choices else -1
    gold = choices[answer] if choices else _gold(row["answer"])
    identity = (context, question, *choices) if choices else (context, question)
    return Example(
        id=read_id(*identity),
        question=question,
        choices=choices,
        answer=answer,
        gold_text=gold,
        context=context,
        group=example_id(" ".join((context, question, *sorted(choices)))),
    )


def _text(row: dict[str, object], key: str) -> str:
    if key not in row:
        raise _BadLineError(f"{key!r} is missing")
    return _clean(row[key], repr(key))


def _clean(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise _BadLineError(f"{what} must be a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _BadLineError(f"{what} has half of a surrogate pair, which is no character") from None
    if not value.strip():
        raise _BadLineError(f"{what} is blank")
    return value.strip()


def _choices(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 2 <= len(value) <= len(LETTERS):
        raise _BadLineError(f"'choices' must be a list of 2 to {len(LETTERS)} texts; leave it out for free text")
    choices = tuple(_clean(choice, f"choice {i}") for i, choice in enumerate(value))
    if len(set(choices)) != len(choices):
        twice = next(choice for choice in choices if choices.count(choice) > 1)
        raise _BadLineError(f"the choice {twice[:40]!r} appears more than once")
    return choices


def _index(answer: object, choices: tuple[str, ...]) -> int:
    valid = f"an index 0 to {len(choices) - 1}, a letter A to {LETTERS[len(choices) - 1]}, or a choice's text"
    if isinstance(answer, Decimal):
        if answer != answer.to_integral_value() or not 0 <= answer < len(choices):
            raise _BadLineError(f"answer {answer} is out of range for {len(choices)} choices; give {valid}")
        return int(answer)
    if not isinstance(answer, str):
        raise _BadLineError(f"'answer' must be {valid}")
    text = answer.strip()
    letter = LETTERS[: len(choices)].find(text.upper()) if len(text) == 1 else -1
    exact = choices.index(text) if text in choices else -1
    if letter >= 0 and exact >= 0 and letter != exact:
        raise _BadLineError(f"answer {text!r} is the letter of one choice and the text of another; give the index")
    if max(letter, exact) < 0:
        raise _BadLineError(f"answer {text[:40]!r} names none of the {len(choices)} choices; give {valid}")
    return max(letter, exact)


def _gold(answer: object) -> str:
    if isinstance(answer, Decimal):
        return f"{answer:f}"
    text = _clean(answer, "'answer' (without choices)")
    _, mark, end = text.rpartition("####")
    return _clean(end, "the answer behind ####") if mark else text


def _same_kind(first: _Line, line: _Line) -> None:
    if bool(first.example.choices) != bool(line.example.choices):
        this, that = ("has choices", "none") if line.example.choices else ("has no choices", "some")
        raise _BadLineError(f"{this}, line {first.number} has {that}; one file holds one kind of question")


def _no_contradiction(before: _Line, line: _Line) -> None:
    if not _same_answer(before.example, line.example):
        raise _BadLineError(
            f"the question of line {before.number} again with another answer "
            f"({line.example.gold_text[:40]!r}, there {before.example.gold_text[:40]!r})"
        )


def _same_answer(one: Example, other: Example) -> bool:
    """Return whether two gold answers to a question are the same: the same choice, or free texts graded alike."""
    if one.choices:
        return as_read(one.gold_text) == as_read(other.gold_text)
    return grade_text(one.gold_text, other) and grade_text(other.gold_text, one)
