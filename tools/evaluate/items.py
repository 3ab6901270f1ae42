"""Items on the disk: JSON lines, each with its own hash."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from cao.configuration import first_error
from cao.errors import InputError
from cao.files import opened_line, sealed_line, write_atomic
from cao.types import Item


def save_items(path: Path, items: Sequence[Item]) -> None:
    """Write items as JSON lines in one step, each with its own hash."""
    write_atomic(path, "".join(f"{sealed_line(item.model_dump_json())}\n" for item in items))


def load_items(path: Path) -> list[Item]:
    """Read what ``save_items`` wrote.

    Raises:
        InputError: the file is missing or a line is no item.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__})") from None
    items = []
    for number, line in enumerate(lines, 1):
        if line:
            try:
                items.append(Item.model_validate_json(opened_line(line)))
            except (ValueError, RecursionError) as error:
                why = first_error(error)[1] if isinstance(error, ValidationError) else str(error)
                raise InputError(f"{path}:{number}: no item ({why})") from None
    return items
