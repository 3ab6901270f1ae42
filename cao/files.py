"""Writing files so that a reader never sees half of one, and hashing them."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def is_path(source: str) -> bool:
    """Return whether what may be a task's name is meant as a file: a name has neither dot nor slash."""
    return "\0" not in source and (bool(Path(source).suffix) or Path(source).name != source)


def sha256_bytes(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """Return the one JSON text of ``value``: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: a NaN or an infinity is inside.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write ``data`` to ``path`` in one step: temporary file beside it, fsync, rename."""
    raw = data.encode() if isinstance(data, str) else data
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def whole_lines(path: Path) -> list[str]:
    """Return a file's lines, none where there is no file; a last one that a kill cut off is taken off the file."""
    if not path.exists():
        return []
    whole, _, rest = path.read_text(encoding="utf-8").rpartition("\n")
    if rest:
        write_atomic(path, f"{whole}\n" if whole else "")
    return whole.split("\n") if whole else []  # not splitlines: a text may hold other separators


def append_line(path: Path, line: str) -> None:
    """Add a line to a file; it is on the disk when this returns."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(f"{line}\n")
        stream.flush()
        os.fsync(stream.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON in one step; NaN and infinities are refused.

    Raises:
        ValueError: a NaN or an infinity is inside.
    """
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
