"""The folder that an adapter is written to: where it may be, and how its files get there."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from cao.errors import InputError
from cao.types import CONFIG_FILE, WEIGHTS_FILE

_TEMPORARY = ".generated."


def check_out(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder where an adapter must not be written.

    Args:
        folder: where it should go.
        overwrite: whether an earlier adapter of this command may be replaced.

    Raises:
        InputError: a file, or a folder that holds anything else, an adapter of another origin, or one to be kept.
    """
    try:
        names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(_TEMPORARY)}
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{folder}: is no folder that can be written ({error.strerror})") from None
    others = names - {CONFIG_FILE, WEIGHTS_FILE}
    if others:
        raise InputError(f"{folder}: holds {min(others)} and is no adapter's folder; give an empty or a new one")
    if names and not _own(folder / WEIGHTS_FILE):
        raise InputError(f"{folder}: holds an adapter that this command did not make; give an empty or a new folder")
    if names and not overwrite:
        raise InputError(f"{folder}: holds an earlier adapter; replace it with --overwrite, or give another --out")


def _own(weights: Path) -> bool:
    """Return whether a file of weights says that a generator made it."""
    try:
        with safe_open(weights, framework="numpy") as file:
            return "generator" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


@contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """Make the folder of the adapter, and one in it for what is on its way there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        place = tempfile.TemporaryDirectory(dir=out, prefix=_TEMPORARY)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None
    with place as folder:
        yield Path(folder)
