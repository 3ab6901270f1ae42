"""What a process opens for writing, makes, renames or removes, while somebody watches."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHANGING = {"os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "shutil.rmtree"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_seen: list[set[str]] = []
_hooked = False


@contextmanager
def writes_seen() -> Iterator[set[str]]:
    """Yield the set of paths that this process changes; it grows as long as the context lasts."""
    global _hooked
    if not _hooked:  # a hook stays for good
        sys.addaudithook(_note)
        _hooked = True
    seen = set[str]()
    _seen.append(seen)
    try:
        yield seen
    finally:
        _seen.remove(seen)


def outside(seen: set[str], *places: Path) -> list[str]:
    """Return what was changed elsewhere than in some places."""
    inside = [os.path.realpath(place) for place in (*places, os.devnull)]
    return sorted(path for path in seen if not any(Path(os.path.realpath(path)).is_relative_to(one) for one in inside))


def _note(event: str, given: tuple[Any, ...]) -> None:
    if not _seen:
        return
    if event == "open":
        paths = [given[0]] if isinstance(given[2], int) and given[2] & _WRITES else []
    elif event == "os.rename":
        paths = list(given[:2])
    else:
        paths = [given[0]] if event in CHANGING else []
    for path in paths:
        if isinstance(path, str | bytes | os.PathLike):
            for seen in _seen:
                seen.add(os.fsdecode(path))
