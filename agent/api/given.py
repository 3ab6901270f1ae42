"""Questions and prompts as Python has them: lists become files that a run can be resumed from, checked before."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.api.options import PathLike, plain
from cao.command_line import make_folder
from cao.errors import InputError
from cao.files import sha256_bytes, write_atomic
from cao.tasks.files.answers import understood
from cao.tasks.files.keys import KeyMap
from cao.tasks.files.rows import Row, Table, typed
from cao.tasks.prompt_file import Asked, asked_each

Question = str | Mapping[str, object]
"""A text, or what a line of a file holds: ``question``, perhaps ``choices``, ``answer`` and ``context``."""
Questions = PathLike | Sequence[Question]
"""A task's name, a file, or questions."""
Prompt = str | Mapping[str, object] | Sequence[Mapping[str, object]]
"""A text, what a line of a file of prompts holds, or a chat: the user's last message and what was said before it."""

GIVEN = "given"


def as_task(given: Questions, what: str, out: Path, keys: str = "") -> str:
    """Return what ``--task`` would be given: a list becomes a file beside the runs, named by its content.

    Args:
        given: a task's name, a file, or questions.
        what: the argument, for messages and for the file's name.
        out: the folder of runs.
        keys: what the caller said of the questions' keys.

    Raises:
        InputError: a question is wrong; the message says which one and why.
    """
    if isinstance(given, str | os.PathLike):
        return os.fspath(given)
    if not isinstance(given, Sequence):
        raise InputError(f"{what}: give a list, a file or a task's name, and no {type(given).__name__}")
    rows = [_row(one, f"{what}:entry {number}") for number, one in enumerate(given, 1)]
    if not rows:
        raise InputError(f"{what}: the list is empty")
    read = [Row(number, _typed(row)) for number, row in enumerate(rows, 1)]
    understood(Path(what), Table("list", read, unit="entry "), KeyMap.parse(keys))
    content = b"".join(_line(row, f"{what}:entry {number}") for number, row in enumerate(rows, 1))
    path = out / GIVEN / f"{what}-{sha256_bytes(content)[:12]}.jsonl"
    make_folder(path.parent, "out")
    if not path.exists():
        write_atomic(path, content)
    return str(path)


def as_asked(prompts: Sequence[Prompt], what: str) -> list[Asked]:
    """Return prompts as a file of them is understood.

    Raises:
        InputError: one is wrong; the message says which one and why.
    """
    return asked_each([(f"{what}:entry {number}", plain(one)) for number, one in enumerate(prompts, 1)])


def _row(one: object, where: str) -> dict[str, object]:
    if isinstance(one, str):
        return {"question": one}
    if not isinstance(one, Mapping) or not all(isinstance(key, str) for key in one):
        raise InputError(f"{where}: is a text, or a mapping with question, choices and answer")
    return {key: _known(plain(value)) for key, value in one.items()}


def _known(value: object) -> object:
    """Return a plain value in which what is not a number (NaN, as pandas writes what is missing) is absent."""
    if isinstance(value, dict):
        return {key: _known(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_known(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _typed(row: dict[str, object]) -> dict[str, object]:
    return {key: typed(value) for key, value in row.items()}


def _line(row: dict[str, object], where: str) -> bytes:
    try:
        return f"{json.dumps(row, ensure_ascii=False, allow_nan=False)}\n".encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: cannot be written as JSON ({error})") from None
