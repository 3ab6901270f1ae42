"""How much memory a model's weights take, and how much there is, before anything is loaded."""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import psutil

from cao.errors import UnavailableError
from cao.types import Dtype

BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2}
LIBRARIES = 1_000_000_000
"""Bytes that a process takes with the libraries alone."""
CONTAINER = Path("/sys/fs/cgroup")
"""Where a container's limit stands, and what it uses."""


@dataclass(frozen=True)
class Need:
    """What one model takes.

    Attributes:
        what: what it is for.
        model: its name.
        size: bytes of its weights; 0 where that is not known.
    """

    what: str
    model: str
    size: int


def stored_parameters(folder: Path) -> int:
    """Return how many numbers a model folder's safetensors files hold; a damaged one counts nothing."""
    return sum(_numbers(file) for file in folder.glob("*.safetensors"))


def _numbers(file: Path) -> int:
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, 100_000_000)))
        return int(sum(math.prod(each["shape"]) for name, each in header.items() if name != "__metadata__"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error):
        return 0  # the loader says what is wrong with it


def available(container: Path = CONTAINER) -> int:
    """Return the bytes of memory that this process may still take.

    Args:
        container: folder of the control group.
    """
    free = int(psutil.virtual_memory().available)
    try:
        most, used = (int((container / name).read_text()) for name in ("memory.max", "memory.current"))
        parts = dict(line.split() for line in (container / "memory.stat").read_text().splitlines())
        files = int(parts["inactive_file"])  # kept of files that were read; given up where memory is wanted
    except (OSError, ValueError, KeyError):  # no container, or no limit
        return free
    return min(free, max(0, most - used + files))


def check_room(needs: list[Need], free: int | None = None) -> None:
    """Raise an error where models do not fit into the memory; nothing is loaded yet.

    Args:
        needs: what is loaded together.
        free: bytes that there are; None for this machine's memory.

    Raises:
        UnavailableError: they do not fit; the message has both numbers.
    """
    free = available() if free is None else free
    whole = sum(need.size for need in needs)
    if whole <= free:
        return
    parts = " and ".join(f"{need.model} ({in_words(need.size)})" for need in needs if need.size)
    raise UnavailableError(
        f"not enough memory for {parts}: the weights take {in_words(whole)}, {in_words(free)} are free; take a smaller "
        "model, run with --dtype bfloat16 where it is float32, or free memory"
    )


def in_words(size: int) -> str:
    """Return a number of bytes for a person."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
