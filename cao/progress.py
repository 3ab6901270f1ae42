"""How long work reports what it is doing, without knowing who listens."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]
"""Called as ``progress(label, done, total)`` from time to time during long work."""

Teller = Callable[[str, float | None], None]
"""Called as ``tell(what, None)`` when work begins that has no parts to count, as ``tell(what, seconds)`` at its end."""


def silent(label: str, done: int, total: int) -> None:
    """Listen to nothing."""


def plain_lines(what: str, seconds: float | None) -> None:
    """Write a line on standard error."""
    sys.stderr.write(f"{'':<20}{what} …\n" if seconds is None else f"{'':<9} {seconds:6.1f} s  {what}\n")
    sys.stderr.flush()


_tellers: list[Teller] = [plain_lines]


@contextmanager
def told(what: str) -> Iterator[None]:
    """Tell whoever shows things that this work begins, and how long it took.

    For what happens once in a while, wherever it is asked for: no caller passes a listener down to it.

    Args:
        what: the work, like ``converting the model``.
    """
    _tellers[-1](what, None)
    started = time.monotonic()
    yield
    _tellers[-1](what, time.monotonic() - started)


def say(what: str) -> None:
    """Tell whoever shows things a fact that is met once, wherever it is found."""
    _tellers[-1](what, None)


def hear(tell: Teller) -> Callable[[], None]:
    """Have somebody else hear what is told, and return what ends this."""
    _tellers.append(tell)
    return lambda: _tellers.remove(tell)
