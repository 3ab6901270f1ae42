"""The fixed policy: strategies from a file, one an attempt. It is also the scripted twin of the others."""

import json
from pathlib import Path

from cao.errors import InputError
from cao.strategy import StrategyRejectedError, parse_strategy
from policies.base import PolicyContext

MAX_FILE_BYTES = 1_000_000


class FixedPolicy:
    """Proposes what a file says, in its order, and starts over after the last.

    Attributes:
        name: ``fixed``.
    """

    name = "fixed"

    def __init__(self, path: Path) -> None:
        """Read the proposals: one JSON object, a JSON list, or lines that are passed on as they stand.

        Args:
            path: the file.

        Raises:
            InputError: it is missing, empty, too large or not text, or nothing in it is a strategy.
        """
        self._texts = _texts(read_text(path))
        if not self._texts:
            raise InputError(f"{path}: holds no strategy; write one JSON object a line")
        mistakes = [mistake for mistake in map(_mistake, self._texts) if mistake]
        if len(mistakes) == len(self._texts):
            raise InputError(f"{path}: holds no strategy; write one JSON object a line. The first: {mistakes[0]}")

    def propose(self, context: PolicyContext, n: int, seed: int) -> list[str]:
        """Return the next ``n`` texts of the file; attempt k of a run gets the k-th.

        Args:
            context: only the length of its history counts.
            n: how many.
            seed: without effect.
        """
        start = len(context.history)
        return [self._texts[(start + i) % len(self._texts)] for i in range(n)]


def read_text(path: Path) -> str:
    """Return a small text file's content.

    Raises:
        InputError: it cannot be read, is over 1 MB, or is not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{path}: over {MAX_FILE_BYTES:,} bytes, which is no file of this kind")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None


def _mistake(text: str) -> str:
    """Return why a text is no strategy, empty for one that is."""
    try:
        parse_strategy(text)
    except StrategyRejectedError as error:
        return str(error)
    return ""


def _texts(content: str) -> list[str]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return [line.strip() for line in content.split("\n") if line.strip()]
    if isinstance(value, list):
        return [item if isinstance(item, str) else json.dumps(item) for item in value]
    return [content.strip()]
