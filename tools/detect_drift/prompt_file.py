"""Prompts from outside: lines of JSON, each a text or an object with what else is known about it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cao.errors import InputError
from cao.tasks.base import LETTERS, choice_example
from cao.types import Example


@dataclass(frozen=True)
class Asked:
    """One prompt and what is known about it.

    Attributes:
        prompt: the text that the encoder sees.
        example: the question with its choices, where they are given; its answer counts only if ``labelled``.
        labelled: whether the right answer is known.
        correct: whether the deployed model's answer was right, where that is given.
    """

    prompt: str
    example: Example | None = None
    labelled: bool = False
    correct: bool | None = None


def json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place (``FILE:LINE``) and the value of each line of a JSONL file that is not blank.

    Raises:
        InputError: the file cannot be read, or a line is not JSON.
    """
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode())
        except (ValueError, RecursionError):
            raise InputError(f"{path}:{number}: not JSON in UTF-8") from None
        yield f"{path}:{number}", value


def read_prompts(path: Path) -> list[Asked]:
    """Return the prompts of a JSONL file, an object with ``prompt`` or ``question`` on each line.

    Raises:
        InputError: the file cannot be read, or a line is wrong, with its place.
    """
    asked = []
    for where, line in json_lines(path):
        if not isinstance(line, dict):
            raise InputError(f"{where}: expected an object with 'prompt' or 'question'")
        asked.append(asked_from(line, where))
    return asked


def asked_from(value: Any, where: str) -> Asked:
    """Return what a string or an object from outside says.

    Args:
        value: a text, or an object with ``prompt`` or ``question`` and perhaps ``context``, ``choices``, ``answer``
            (index or letter) and ``correct``.
        where: its place, for the message.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, str):
        return Asked(check_text(value, where))
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a string, found {type(value).__name__}")
    if not ("prompt" in value or "question" in value):
        raise InputError(f"{where}: expected an object with 'prompt' or 'question'")
    question = check_text(value.get("prompt", value.get("question")), where)
    context = check_text(value.get("context") or "", where)
    correct = value.get("correct")
    if correct is not None and not isinstance(correct, bool):
        raise InputError(f"{where}: 'correct' must be true or false")
    prompt = f"{context}\n{question}" if context else question
    if value.get("choices") is None or not question.strip():
        return Asked(prompt, correct=correct)
    choices = _choices(value["choices"], where)
    answer = _answer(value.get("answer"), len(choices), where)
    example = choice_example(question, choices, answer or 0, context=context)
    return Asked(prompt, example, labelled=answer is not None, correct=correct)


def check_text(value: Any, where: str) -> str:
    """Return ``value`` if it is a text that an encoder can read.

    Args:
        value: from outside.
        where: file, line and place, for the message.

    Raises:
        InputError: not a string, or one with broken Unicode.
    """
    if not isinstance(value, str):
        raise InputError(f"{where}: expected a string, found {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: holds half of a Unicode surrogate pair") from None
    return value


def _choices(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not 2 <= len(value) <= len(LETTERS):
        raise InputError(f"{where}: 'choices' must be a list of 2 to {len(LETTERS)} texts")
    choices = [check_text(choice, where) for choice in value]
    if not all(choice.strip() for choice in choices):
        raise InputError(f"{where}: a choice is blank")
    return choices


def _answer(value: Any, count: int, where: str) -> int | None:
    if value is None:
        return None
    letters = LETTERS[:count]
    if isinstance(value, str) and len(value.strip()) == 1 and value.strip().upper() in letters:
        return letters.index(value.strip().upper())
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count:
        return value
    raise InputError(f"{where}: 'answer' must be an index 0 to {count - 1} or a letter A to {letters[-1]}")
