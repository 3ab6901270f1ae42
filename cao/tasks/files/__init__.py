"""Files that people have, read as questions: a module a family of formats, then the keys, then the answers.

``read_examples`` is the door. Every file is hostile input: what cannot be read is an ``InputError`` of one line that
names the file and the line (the row, in files without lines), nothing is unpickled and no code in a file runs.
"""

from collections.abc import Callable
from pathlib import Path

from cao.errors import InputError
from cao.reading import FileReading
from cao.tasks.files.answers import understood
from cao.tasks.files.csv_files import read_csv, read_lines
from cao.tasks.files.encoding import check_encoding
from cao.tasks.files.json_files import read_json, read_jsonl
from cao.tasks.files.keys import KeyMap
from cao.tasks.files.rows import Table, check_size
from cao.types import Example

READERS: dict[str, Callable[[Path], Table]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".txt": read_lines,
}
"""End of a file's name → what reads it; ``tables`` reads Parquet files and folders that ``save_to_disk`` wrote."""

PARQUET = ".parquet"
SUFFIXES = (*READERS, PARQUET)


def read_examples(path: Path, keys: KeyMap | None = None) -> tuple[list[Example], FileReading]:
    """Read a file of questions.

    Args:
        path: a file of ``READERS``, any other name of a JSONL file, or a folder of ``save_to_disk``.
        keys: what the user said of its keys.

    Returns:
        The questions, each once, and how the file was read.

    Raises:
        InputError: it cannot be read, or a line of it is wrong; ``FILE:LINE: reason``, or ``FILE: reason``.
    """
    return understood(path, read_table(path), keys or KeyMap())


def read_table(path: Path) -> Table:
    """Return a file's rows as they are, by the format that its name tells.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if path.is_dir() and not any((path / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
            raise InputError(f"{path}: not a regular file, nor a folder that save_to_disk of datasets wrote")
        if not path.is_dir():
            check_size(path)
        if path.is_dir() or path.suffix.lower() == PARQUET:
            from cao.tasks.files.tables import read_parquet, read_saved  # noqa: PLC0415  (half a second for Arrow)

            return read_saved(path) if path.is_dir() else read_parquet(path)
        with path.open("rb") as lines:
            check_encoding(path, lines)
        return READERS.get(path.suffix.lower(), read_jsonl)(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from None
