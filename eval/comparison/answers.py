"""What every kind of file is read into: one side's answers, each with the names that its question goes by.

A question has several names, because files differ in what they tell of it: its id, the id that this project would give
its text, a hash of text and choices, the hash that lm-evaluation-harness gives a document. Two answers belong together
where they share one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from agent.record.trace_file import is_number
from agent.record.wording import one_line
from cao.configuration import first_error
from cao.errors import InputError
from cao.tasks.base import as_read, exact_id, example_id, read_id

LARGEST = 1 << 30
"""Bytes of a file, at most."""

BY_ID, BY_TEXT, BY_DOCUMENT = "question id", "text and choices", "document hash"

Name = tuple[str, str]
"""How a question is named (one of the three above), and the name."""

Shape = TypeVar("Shape", bound=BaseModel)


@dataclass(frozen=True)
class Answered:
    """One question's answer.

    Attributes:
        names: what the question goes by.
        correct: whether the answer is right, by the side's own rule; one of each seed that the side was measured with.
        scores: of the choices by that rule, or empty.
        gold: index of the right choice, -1 where it is not known or there are no choices.
        gold_text: the right choice as it is read, empty where it is not known.
    """

    names: tuple[Name, ...]
    correct: tuple[bool, ...]
    scores: tuple[float, ...] = ()
    gold: int = -1
    gold_text: str = ""


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        source: the file or folder, as it was given.
        kind: what it is.
        task: whose questions, as far as the file says it.
        model: what answered, as far as the file says it.
        rule: what makes an answer of what was measured.
        answers: one a question.
    """

    source: str
    kind: str
    task: str | None
    model: str | None
    rule: str
    answers: list[Answered] = field(repr=False)


def names_of(context: str, question: str, choices: Sequence[str]) -> list[Name]:
    """Return the names of a question that follow from its text: those of this project's ids, and text with choices.

    The order of the choices is part of an id and not of the text's hash.

    Args:
        context: a passage it is about, may be empty.
        question: the question.
        choices: its choices, empty where there are none.
    """
    context, question, stripped = context.strip(), question.strip(), [choice.strip() for choice in choices]
    ids = {exact_id(context, question, *stripped), read_id(context, question, *stripped)}
    if not stripped:
        ids |= {exact_id(question), example_id(question)}
    whole = f"{context}\n{question}" if context else question
    text = read_id(whole, *sorted(map(as_read, stripped)))
    return [*((BY_ID, one) for one in sorted(ids)), (BY_TEXT, text)]


def checked_scores(scores: Sequence[float], gold: int, place: str) -> tuple[float, ...]:
    """Return the scores of a question's choices.

    Args:
        scores: k numbers, none where there are no choices.
        gold: index of the right choice.
        place: where they stand.

    Raises:
        InputError: one of them is no number to calculate with, or the right choice is none of them.
    """
    if not all(map(is_number, scores)):
        raise InputError(f"{place}: a score is not finite, or too large to be one")
    if scores and not 0 <= gold < len(scores):
        raise InputError(f"{place}: the right choice is {gold}, and there are {len(scores)}")
    return tuple(scores)


def check_file(path: Path) -> None:
    """Raise InputError where a path is no file of a size that is read."""
    if not path.is_file():
        raise InputError(f"{path}: {'is no file' if path.exists() else 'there is no such file or folder'}")
    if path.stat().st_size > LARGEST:
        raise InputError(f"{path}: is larger than {LARGEST >> 30} GiB, which no set of answers is")


def read_lines(path: Path, shape: type[Shape]) -> Iterator[tuple[str, Shape]]:
    """Yield a file's JSON lines, each with where it stands.

    Args:
        path: the file.
        shape: what each line holds.

    Raises:
        InputError: a line holds something else.
    """
    check_file(path)
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield f"{path}:{number}", parsed(line, shape, f"{path}:{number}")


def parsed(text: bytes, shape: type[Shape], place: str) -> Shape:
    """Return what a JSON text holds; raises InputError, with the place, where that is something else."""
    try:
        return shape.model_validate_json(text)
    except ValidationError as error:
        where, what = first_error(error)
        raise InputError(f"{place}: damaged; {one_line(f'{where}: {what}' if where else what, 160)}") from None


def once(names: Sequence[str], source: Path) -> None:
    """Raise InputError where a question is answered twice.

    Args:
        names: of the questions of one file.
        source: the file.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{source}: the question {one_line(name, 60)} is answered twice")
        seen.add(name)
