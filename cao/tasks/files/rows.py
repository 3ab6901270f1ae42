"""Rows of a file as they are read, whatever its format, and what bounds them."""

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from cao.errors import InputError

MAX_FILE_BYTES = 256_000_000
MAX_LINE_BYTES = 1_000_000
"""Of a line, and of one object of an array."""
MAX_ROWS = 2_000_000
PARTS = ("test", "validation", "train")
"""Of a file or folder with several parts the first one of these is read."""

_NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,30})?")


class BadRowError(ValueError):
    """Why a row is refused."""


@dataclass(frozen=True)
class Row:
    """One row: its line, or its number in a file without lines, and its values by key.

    Numbers are ``Decimal``, because floats would round what is written.
    """

    number: int
    values: dict[str, object]


@dataclass
class Table:
    """What a reader found.

    Attributes:
        format: for people.
        rows: in the file's order.
        broken: number and reason of the first row that could not be read; the rows before it come first in turn.
        names: column → the names that its numbers stand for, where the file states them.
        notes: what a person should know, in sentences without their full stop.
        unit: what a row's number counts where it is not a line.
        cells: whether lists and objects are still texts of cells.
    """

    format: str
    rows: list[Row]
    broken: tuple[int, str] | None = None
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unit: str = ""
    cells: bool = False

    def place(self, path: Path, number: int) -> str:
        """Return how a row is named in a message."""
        return f"{path}:{self.unit}{number}"


def check_size(path: Path) -> None:
    """Refuse what is no regular file, or too large to be read.

    Raises:
        InputError: it is not there, no file, or too large.
    """
    if not path.is_file():
        there = "a link that leads nowhere" if path.is_symlink() else "no such file"
        raise InputError(f"{path}: {'not a regular file' if path.exists() else there}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"{path}: larger than {MAX_FILE_BYTES // 1_000_000} MB; give a sample of it")


def typed(value: object) -> object:
    """Return a value of a column with numbers as ``Decimal``; what is not a number (NaN) is absent."""
    if isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, list | tuple):
        return [typed(each) for each in value]
    if isinstance(value, dict):
        return {str(key): typed(each) for key, each in value.items()}
    return value


def number_of(value: object) -> Decimal | None:
    """Return a number, written as one or as a text of digits; None for anything else."""
    if isinstance(value, str):
        return Decimal(value.strip()) if _NUMBER.fullmatch(value.strip()) else None
    return value if isinstance(value, Decimal) else None


def truth_of(value: object) -> bool | None:
    """Return a truth, written as one or as the word true or false; None for anything else."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().casefold())
    return value if isinstance(value, bool) else None


def text_of(value: object, what: str) -> str:
    """Return a text, stripped.

    Args:
        value: from the file.
        what: its name in the message.

    Raises:
        BadRowError: it is no text, blank, or broken Unicode.
    """
    if not isinstance(value, str):
        raise BadRowError(f"{what} must be a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRowError(f"{what} has half of a surrogate pair, which is no character") from None
    if not value.strip():
        raise BadRowError(f"{what} is blank")
    return value.strip()
