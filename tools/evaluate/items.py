"""Items on the disk: JSON lines, each with its own hash."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from cao.configuration import first_error
from cao.errors import InputError
from cao.files import sha256_bytes, write_atomic
from cao.types import Item

_SEAL = "sha256"


def save_items(path: Path, items: Sequence[Item]) -> None:
    """Write items as JSON lines in one step, each with its own hash."""
    write_atomic(path, "".join(f"{_sealed(item)}\n" for item in items))


def _sealed(item: Item) -> str:
    """Return an item's line: it ends with the hash of all the rest."""
    line = item.model_dump_json()
    return f'{line[:-1]},"{_SEAL}":"{sha256_bytes(line.encode())}"}}'


def _opened(line: str) -> Item:
    """Return a line's item. The hash is that of the text, so an item that lacks later keys is read, too.

    Raises:
        ValueError: it is no item, or not the one that was written.
    """
    body, sealed, seal = line.rpartition(f',"{_SEAL}":"')
    if not sealed:  # of a version that wrote none
        return Item.model_validate_json(line)
    text = f"{body}}}"
    if seal != f'{sha256_bytes(text.encode())}"}}':
        raise ValueError("its content does not match its hash")
    return Item.model_validate_json(text)


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
                items.append(_opened(line))
            except (ValueError, RecursionError) as error:
                why = first_error(error)[1] if isinstance(error, ValidationError) else str(error)
                raise InputError(f"{path}:{number}: no item ({why})") from None
    return items
