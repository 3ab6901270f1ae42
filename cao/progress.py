"""How long work reports what it is doing, without knowing who shows it."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Progress = Callable[[str, int, int], None]
"""Called as ``progress(label, done, total)`` from time to time during long work."""

Listener = Callable[[str, float | None], None]
"""Called as ``listener(what, None)`` when work begins that has no parts to count, as ``listener(what, seconds)`` at its
end."""


def silent(label: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass
class Pace:
    """How fast counted work goes, for a guess of what is left of it.

    Work that was kept from before is counted, too, and takes next to no time. So the guess goes by what took more than
    about a hundredth of the slowest, or hours would be told as seconds where work goes on after an interruption.

    Attributes:
        label: of the work.
        done: how much of it was done when it was last reported.
        changed: when ``done`` last changed, s.
        took: power of ten of the seconds that one took → how many did, and seconds of all these.
    """

    label: str = ""
    done: int = 0
    changed: float = 0.0
    took: dict[int, tuple[int, float]] = field(default_factory=dict)

    def left(self, label: str, done: int, total: int, now: float) -> float | None:
        """Return about how many seconds are left, None while nothing can be said.

        Args:
            label: of the work.
            done: how much of it.
            total: all of it, 0 where it is not counted.
            now: the time, s.
        """
        if label != self.label or done < self.done:
            self.label, self.done, self.changed, self.took = label, done, now, {}
        more, seconds = done - self.done, now - self.changed
        if more:
            power = math.floor(math.log10(max(seconds, 1e-9) / more))
            count, spent = self.took.get(power, (0, 0.0))
            self.took[power] = (count + more, spent + seconds)
            self.done, self.changed, seconds = done, now, 0.0
        if not self.took or done > total:
            return None
        real = [one for power, one in self.took.items() if power >= max(self.took) - 2]
        return (total - done) * (sum(spent for _, spent in real) + seconds) / sum(count for count, _ in real)


def plain_lines(what: str, seconds: float | None) -> None:
    """Write a line on standard error."""
    sys.stderr.write(f"{'':<20}{what} …\n" if seconds is None else f"{'':<9} {seconds:6.1f} s  {what}\n")
    sys.stderr.flush()


_listeners: list[Listener] = [plain_lines]


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Show that this work begins, and how long it took at its end.

    For work that is done once in a while, wherever it is needed: no caller passes a listener down to it.

    Args:
        what: the work, like ``converting the model``.
    """
    _listeners[-1](what, None)
    started = time.monotonic()
    yield
    _listeners[-1](what, time.monotonic() - started)


def say(what: str) -> None:
    """Show a fact once."""
    _listeners[-1](what, None)


def listen(listener: Listener) -> Callable[[], None]:
    """Have another listener show what ``timed`` and ``say`` report, and return what ends this."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)
