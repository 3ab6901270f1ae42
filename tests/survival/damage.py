"""Files that something damaged: a bit that flipped, an end that is missing; and what became of those who read them."""

import io
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from cao.errors import CaoError
from cao.strategy import StrategyRejectedError
from tests.survival.deaths import PATIENCE_S

HANG_S = 300
"""Seconds of processor time; what takes more hangs."""
LOOK_S = 1.0
"""Seconds between two looks at it."""


def damage(path: Path, draw: random.Random) -> str:
    """Flip one bit of a file, or cut its end off, and say which."""
    data = bytearray(path.read_bytes())
    place = draw.randrange(len(data))
    if draw.random() < 0.3:
        path.write_bytes(data[:place])
        return f"{path.name} cut to {place} of {len(data)} bytes"
    bit = draw.randrange(8)
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return f"{path.name} with bit {bit} of byte {place} of {len(data)} flipped"


@dataclass(frozen=True)
class Ended:
    """What a command came to: its exit status, what it said, and what it raised where that was a defect."""

    status: int
    out: str
    err: str


class HangsError(Exception):
    """A command did not end."""


@contextmanager
def not_hanging(seconds: float = HANG_S) -> Iterator[None]:
    """Raise HangsError in what does not end.

    Args:
        seconds: of processor time, so that a busy machine makes no hang; what only waits is given an hour.
    """
    used, began = time.process_time(), time.monotonic()

    def look(number: int, frame: FrameType | None) -> None:
        if time.process_time() - used >= seconds or time.monotonic() - began >= PATIENCE_S:
            raise HangsError

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def ended(command: Callable[[list[str]], int], argv: list[str], seconds: float = HANG_S) -> Ended:
    """Call a command in this process; what it raises is status 1, as at the command line."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            with not_hanging(seconds):
                status = command(argv)
        except SystemExit as left:  # argparse
            status = left.code if isinstance(left.code, int) else 1
        except Exception:  # noqa: BLE001  (whatever it is, it is a defect)
            status = 1
            err.write(traceback.format_exc())
    return Ended(status, out.getvalue(), err.getvalue())


def refusal(call: Callable[[], object], seconds: float = HANG_S) -> str:
    """Return in which words a call was refused, empty where it was not; any other error is a defect."""
    try:
        with not_hanging(seconds):
            call()
    except (CaoError, StrategyRejectedError) as error:
        return str(error)
    return ""


def refused(one: Ended) -> bool:
    """Return whether a command said in one line what is wrong, as bad input or as something that is missing."""
    return one.status in (2, 3) and sum(line.startswith("error: ") for line in one.err.splitlines()) == 1


def found(one: Ended, *names: str) -> bool:
    """Return whether a command refused a file by its name, or by that of the folder that it makes up."""
    last = one.err.strip().splitlines()[-1] if one.err.strip() else ""
    return refused(one) and any(name in one.err for name in names) and last.count("\n") == 0
