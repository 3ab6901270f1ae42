"""Prompts from outside, the same for every command: files of questions, and files and streams with one prompt a line.

A line is a text, or JSON: a text, an object with what else is known about the prompt, or a chat. Tables, and objects
with usual names, are read as questions are, so that a prompt is the text that a run on the same file shows.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TypeGuard

from cao.errors import InputError
from cao.progress import say
from cao.tasks.base import encoder_text, letter_query, plain
from cao.tasks.files import PARQUET, read_table
from cao.tasks.files.chats import chat_of, has_user, is_chat, unfolded
from cao.tasks.files.csv_files import read_cells
from cao.tasks.files.encoding import check_encoding
from cao.tasks.files.json_files import LISTS
from cao.tasks.files.keys import CHAT_KEYS, Keys
from cao.tasks.files.prompts import example_of, keys_of, labelled
from cao.tasks.files.rows import BadRowError, typed
from cao.types import AnswerStyle, Example

TABLES = (".csv", ".tsv", PARQUET)
"""Ends of the names of files whose prompts are rows."""

_MUST_BE_JSON = re.compile(r'\s*(\{\s*(["}]|$)|\[\s*(["{]|$))')
"""How an object or a list of prompts begins; a text may begin with a quote, a brace or a bracket, too."""

_TEXTS = ("prompt", "question", "content", *CHAT_KEYS)
"""Keys whose chat must ask something."""

Entry = tuple[str, object]
"""The place of a line, a row or an entry of a list, and its value."""


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


def entries(path: Path) -> list[Entry]:
    """Return the entries of a file: rows of a table or a saved data set, entries of a JSON array, else lines.

    Raises:
        InputError: the file cannot be read, is no text in UTF-8, or holds broken JSON or CSV.
    """
    suffix = path.suffix.lower()
    if suffix in TABLES or path.is_dir():
        return _rows(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    check_encoding(path, lines)
    whole = _whole(b"\n".join(lines).decode("utf-8-sig")) if suffix == ".json" else None
    if isinstance(whole, list) and not is_chat(whole):
        return _listed(whole, f"{path}:1")
    if isinstance(whole, dict):
        return _rows(path) if any(key in LISTS for key in whole) else [(f"{path}:1", whole)]
    texts = ((f"{path}:{number}", line.decode()) for number, line in enumerate(lines, 1))
    read = [(where, value_of(text, where)) for where, text in texts if text.strip()]
    objects = sum(isinstance(value, dict) for _, value in read)
    for where, value in read:
        if isinstance(value, str) and value.lstrip().startswith("{") and 2 * objects > len(read):
            raise InputError(f"{where}: not JSON, but begins like the objects on the other lines")
    return read


def _rows(path: Path) -> list[Entry]:
    table = read_table(path)
    if table.broken is not None:
        raise InputError(f"{table.place(path, table.broken[0])}: {table.broken[1]}")
    for note in table.notes:
        say(f"{path}: {note}")
    if table.cells and table.rows:
        try:
            read_cells(table, keys_of([row.values for row in table.rows]))
        except BadRowError as error:
            raise InputError(f"{table.place(path, error.args[1])}: {error.args[0]}") from None
    return [(table.place(path, row.number), row.values) for row in table.rows]


def _whole(text: str) -> object:
    """Return what a text says that is JSON as a whole, None where it is not."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _listed(values: Sequence[object], where: str) -> list[Entry]:
    return [(f"{where}, prompt {number}", value) for number, value in enumerate(values, 1)]


def read_prompts(path: Path) -> list[Asked]:
    """Return the prompts of a file: one for each entry, or for each prompt of an entry that is a list.

    Raises:
        InputError: the file cannot be read, or an entry is wrong, with its place.
    """
    return asked_each(
        [
            one
            for where, value in entries(path)
            for one in (_listed(value, where) if _is_window(value) else [(where, value)])
        ]
    )


def read_windows(path: Path, size: int | None = None) -> list[list[Asked]]:
    """Return the windows of a file: one for each JSON list, or those of a file whose entries are prompts.

    Args:
        path: its entries are all lists of prompts, or all prompts.
        size: prompts of a window where an entry is a prompt, the last window may hold fewer; None makes one window.

    Raises:
        InputError: the file cannot be read, is empty or mixes the two, or a line is wrong, with its place.
    """
    return windows_of(entries(path), str(path), size)


def windows_of(lines: list[Entry], path: str, size: int | None = None) -> list[list[Asked]]:
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
        return [asked_each(_listed(value, where)) for where, value in lines if _is_window(value)]
    asked = asked_each(lines)
    size = size or len(asked)
    return [asked[start : start + size] for start in range(0, len(asked), size)]


def asked_from(value: object, where: str) -> Asked:
    """Return what one prompt from outside says.

    Args:
        value: a text; a chat, which is a list of messages; or an object with ``prompt``, ``question``, ``content`` or
            ``messages`` (a text or a chat), or another name that is usual for a question, and perhaps ``context``,
            ``choices``, ``answer`` (index or letter) and ``correct``. Of a chat the user's last message is asked, and
            what was said before it is the context.
        where: its place, for the message.

    Raises:
        InputError: anything else.
    """
    return asked_each([(where, value)])[0]


def asked_each(given: Sequence[Entry]) -> list[Asked]:
    """Return what prompts from outside say; which key holds what is found out from all objects among them.

    Args:
        given: place and value of each, as ``asked_from`` takes them.

    Raises:
        InputError: one is wrong, with its place.
    """
    rows = [_row(value, where) for where, value in given]
    known = [row for row in rows if row is not None]
    keys = keys_of(known)
    right = labelled(known, keys)
    return [
        Asked(_text(value, where)) if row is None else _from_row(row, keys, right, where)
        for row, (where, value) in zip(rows, given, strict=True)
    ]


def _row(value: object, where: str) -> dict[str, object] | None:
    """Return an object, or a chat, as a row whose chats are unfolded; None for a text."""
    if is_chat(value):
        value = {"messages": value}
    if not isinstance(value, dict):
        return None
    if value.get("role", "user") != "user":
        raise InputError(f"{where}: a message of another role than 'user' is no prompt")
    try:
        chats = {key: chat for key, held in value.items() if (chat := chat_of(key, held)) is not None}
        mute = [key for key in chats if key in _TEXTS and not has_user(chats[key])]
        if mute:
            raise BadRowError("a chat without a message of the user")
        return {key: typed(held) for key, held in unfolded(value).items()}
    except BadRowError as error:
        raise InputError(f"{where}: {error}") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deep") from None


def _from_row(row: dict[str, object], keys: Keys, right: dict[str, Example] | None, where: str) -> Asked:
    if not keys.question or row.get(keys.question[0]) is None:
        keys, right = keys_of([{key: value for key, value in row.items() if value is not None}]), None
    if not keys.question:
        raise InputError(f"{where}: expected an object with 'prompt', 'question', 'content' or 'messages'")
    correct = None if keys.choices and keys.answer == "correct" else row.get("correct")
    if correct is not None and not isinstance(correct, bool):
        raise InputError(f"{where}: 'correct' must be true or false")
    question = _text(row[keys.question[0]], where)
    if not question.strip():
        return Asked("", correct=correct)
    if right is not None:
        keys = replace(keys, answer=None)
    example = example_of(row | {keys.question[0]: question}, keys, where)
    example = (right or {}).get(example.id, example)
    return Asked(
        encoder_text(example), example if example.choices else None, labelled=example.labelled, correct=correct
    )


def _is_window(value: object) -> TypeGuard[list[object]]:
    """Return whether an entry is a list of prompts; a chat is one prompt."""
    return isinstance(value, list) and not is_chat(value)


def _text(value: object, where: str) -> str:
    """Return a text, or the texts among the parts of a message."""
    if isinstance(value, list) and value and all(isinstance(part, dict) and "type" in part for part in value):
        return "\n".join(check_text(part.get("text"), where) for part in value if part["type"] == "text")
    return check_text(value, where)


def check_text(value: object, where: str) -> str:
    """Return ``value`` if it is a text that an encoder can read.

    Args:
        value: from outside.
        where: file, line and place, for the message.

    Raises:
        InputError: not a string, or one with broken Unicode.
    """
    if not isinstance(value, str):
        kind = "number" if isinstance(value, Decimal) else type(value).__name__
        raise InputError(f"{where}: expected a string, found {kind}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: holds half of a Unicode surrogate pair") from None
    return value
