"""Prompts from outside, the same for every command: files and streams with one prompt a line.

A line is a text, or JSON: a text, an object with what else is known about the prompt, or a chat.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from cao.errors import InputError
from cao.tasks.base import LETTERS, choice_example, letter_query, plain
from cao.tasks.files.chats import asked_in
from cao.tasks.files.rows import BadRowError
from cao.types import AnswerStyle, Example

_TEXTS = ("prompt", "question", "content", "messages")
"""Keys of an object that hold the prompt; the first one there counts."""

_MUST_BE_JSON = re.compile(r'\s*(\{\s*["}]|\[\s*["{])')
"""How an object or a list of prompts begins; a text may begin with a quote, a brace or a bracket, too."""


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

    def form(self, style: AnswerStyle) -> str:
        """Return the prompt as a model reads it that answers in this style, as a question file's task asks it."""
        if style == "letter" and self.example is not None:
            return letter_query(self.example).prefix
        return plain(self.prompt)


def value_of(line: str, where: str) -> object:
    """Return what a line says: a list, an object or a string of JSON, else its own text.

    Args:
        line: a line of a file or a stream.
        where: its place, for the message.

    Raises:
        InputError: it begins like an object or a list of prompts and is none.
    """
    line = line.removeprefix("\ufeff").strip()
    if not line.startswith(("{", "[", '"')):
        return line
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        if _MUST_BE_JSON.match(line):
            raise InputError(f"{where}: not JSON, but begins like it") from None
        return line
    return value


def values(path: Path) -> Iterator[tuple[str, object]]:
    """Yield the place (``FILE:LINE``) and the value of each line of a file that is not blank.

    Raises:
        InputError: the file cannot be read, or a line is no UTF-8 or broken JSON.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        try:
            text = line.decode()
        except ValueError:
            raise InputError(f"{where}: not text in UTF-8") from None
        if text.strip():
            yield where, value_of(text, where)


def read_prompts(path: Path) -> list[Asked]:
    """Return the prompts of a file: one on each line, or a JSON list of several.

    Raises:
        InputError: the file cannot be read, or a line is wrong, with its place.
    """
    asked = []
    for where, value in values(path):
        asked += _window(value, where) if _is_window(value) else [asked_from(value, where)]
    return asked


def read_windows(path: Path, size: int | None = None) -> list[list[Asked]]:
    """Return the windows of a file: one for each JSON list, or those of a file with one prompt a line.

    Args:
        path: its lines are all lists of prompts, or all prompts.
        size: prompts of a window where a line is a prompt, the last window may hold fewer; None makes one window.

    Raises:
        InputError: the file cannot be read, is empty or mixes the two, or a line is wrong, with its place.
    """
    return windows_of(list(values(path)), str(path), size)


def windows_of(lines: list[tuple[str, object]], path: str, size: int | None = None) -> list[list[Asked]]:
    """Return the windows that the lines of a file, or the entries of a list, make.

    Args:
        lines: place and value of each.
        path: what they are from, for messages.
        size: as in ``read_windows``.

    Raises:
        InputError: there are none, they mix prompts with lists of prompts, or one is wrong, with its place.
    """
    if not lines:
        raise InputError(f"{path}: holds no window; each line is a prompt, or a JSON list of prompts")
    listed = _is_window(lines[0][1])
    for where, value in lines:
        if _is_window(value) != listed:
            expected = "a JSON list of prompts" if listed else "a prompt"
            raise InputError(f"{where}: expected {expected} as on the lines before, found {json.dumps(value)[:40]}")
    if listed and size is not None:
        raise InputError(f"{path}: holds lists of prompts, which are windows already; only single prompts can be cut")
    if listed:
        return [_window(value, where) for where, value in lines if _is_window(value)]
    asked = [asked_from(value, where) for where, value in lines]
    size = size or len(asked)
    return [asked[start : start + size] for start in range(0, len(asked), size)]


def asked_from(value: object, where: str) -> Asked:
    """Return what one prompt from outside says.

    Args:
        value: a text; a chat, which is a list of messages, of which the user's last one is asked and those before
            it are context; or an object with ``prompt``, ``question``, ``content`` or ``messages`` (a text or a chat)
            and perhaps ``context``, ``choices``, ``answer`` (index or letter) and ``correct``.
        where: its place, for the message.

    Raises:
        InputError: anything else.
    """
    if not isinstance(value, dict):
        return Asked(_prompt(*_question(value, where)))
    key = next((key for key in _TEXTS if key in value), None)
    if key is None:
        raise InputError(f"{where}: expected an object with 'prompt', 'question', 'content' or 'messages'")
    if value.get("role", "user") != "user":
        raise InputError(f"{where}: a message of another role than 'user' is no prompt")
    question, context = _question(value[key], where, check_text(value.get("context") or "", where))
    correct = value.get("correct")
    if correct is not None and not isinstance(correct, bool):
        raise InputError(f"{where}: 'correct' must be true or false")
    prompt = _prompt(question, context)
    if value.get("choices") is None or not question.strip():
        return Asked(prompt, correct=correct)
    choices = _choices(value["choices"], where)
    answer = _answer(value.get("answer"), len(choices), where)
    example = choice_example(question, choices, answer or 0, context=context)
    return Asked(prompt, example, labelled=answer is not None, correct=correct)


def _is_window(value: object) -> TypeGuard[list[object]]:
    """Return whether a line is a list of prompts; a chat is one prompt."""
    return isinstance(value, list) and not _is_chat(value)


def _is_chat(value: object) -> TypeGuard[list[dict[str, object]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(it, dict) and "role" in it for it in value)


def _window(value: list[object], where: str) -> list[Asked]:
    return [asked_from(prompt, f"{where}, prompt {item}") for item, prompt in enumerate(value, 1)]


def _prompt(question: str, context: str) -> str:
    return f"{context}\n{question}" if context else question


def _question(value: object, where: str, context: str = "") -> tuple[str, str]:
    """Return a text, the user's last message of a chat, or the texts among a message's parts; and its context."""
    if _is_chat(value):
        if not any(message["role"] == "user" for message in value):
            raise InputError(f"{where}: a chat without a message of the user")
        try:
            asked, before = asked_in(value, context)
        except BadRowError as error:
            raise InputError(f"{where}: {error}") from None
        return check_text(asked, where), check_text(before, where)
    if isinstance(value, list) and value and all(isinstance(part, dict) and "type" in part for part in value):
        texts = [check_text(part.get("text"), where) for part in value if part["type"] == "text"]
        return "\n".join(texts), context
    return check_text(value, where), context


def check_text(value: object, where: str) -> str:
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


def _choices(value: object, where: str) -> list[str]:
    if not isinstance(value, list) or not 2 <= len(value) <= len(LETTERS):
        raise InputError(f"{where}: 'choices' must be a list of 2 to {len(LETTERS)} texts")
    choices = [check_text(choice, where) for choice in value]
    if not all(choice.strip() for choice in choices):
        raise InputError(f"{where}: a choice is blank")
    return choices


def _answer(value: object, count: int, where: str) -> int | None:
    if value is None:
        return None
    letters = LETTERS[:count]
    if isinstance(value, str) and len(value.strip()) == 1 and value.strip().upper() in letters:
        return letters.index(value.strip().upper())
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count:
        return value
    raise InputError(f"{where}: 'answer' must be an index 0 to {count - 1} or a letter A to {letters[-1]}")
