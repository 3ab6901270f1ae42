"""Where a page and its figures are written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cao.errors import InputError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make a page's folder if it is not there, and write into it.

    Raises:
        InputError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None
