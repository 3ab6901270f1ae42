"""Where a page and its figures are written."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from cao.errors import InputError
from cao.files import write_atomic


def write_result(result: BaseModel, page: str, folder: Path, name: str) -> Path:
    """Write ``NAME.md`` and the figures it comes from, ``NAME.json``, and return the page's path.

    Args:
        result: what was measured.
        page: Markdown.
        folder: where; made if it is not there.
        name: of both files, without an ending.

    Raises:
        InputError: they cannot be written.
        ValueError: a NaN or an infinity is among the figures.
    """
    figures = json.dumps(result.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    with writing(folder):
        write_atomic(folder / f"{name}.json", f"{figures}\n")
        write_atomic(folder / f"{name}.md", page)
    return folder / f"{name}.md"


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
