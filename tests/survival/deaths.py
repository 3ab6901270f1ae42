"""Commands that die: at a moment, or at the n-th time that they give a file its name.

They run in processes forked from one that has imported what commands import, as ``tests.agent.killing`` says.
"""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal

import psutil

from tests.agent.killing import forked

NAMING = ("replace", "rename")
"""The functions of ``os`` that give a file its name; each call is a window, before it and behind it."""
PATIENCE_S = 3_600
"""For one command; beside others a processor may be had now and then only."""
DIED = 37
"""Exit status of a process that ended itself without a word."""


@dataclass(frozen=True)
class Death:
    """When a command dies: after so many seconds of processor time, or at its n-th window; neither is never.

    Processor time, so that a busy machine does not shift the moments.
    """

    seconds: float | None = None
    window: int | None = None
    side: Literal["before", "behind"] = "before"


NEVER = Death()


@dataclass(frozen=True)
class Passed:
    """What a command that ended by itself went through: seconds of processor time, and windows."""

    seconds: float
    windows: int

    @staticmethod
    def read(path: Path) -> "Passed":
        """Read what ``lived`` had written."""
        seconds, windows = path.read_text().split()
        return Passed(float(seconds), int(windows))


def lived(command: Callable[..., int], argv: list[str], death: Death = NEVER, passed: Path | None = None) -> int:
    """Run a command in a process of its own and return its exit status: -9 or ``DIED`` where it died.

    Args:
        command: a function of a module, so that the other process can find it.
        argv: its arguments.
        death: when it dies.
        passed: a file for what it went through.
    """
    process = forked(_mortal, command, argv, death, passed)
    until(process, death.seconds)
    process.kill()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def until(process: ForkServerProcess, seconds: float | None) -> None:
    """Wait until a process has ended, or has had so many seconds of processor time."""
    deadline = time.monotonic() + PATIENCE_S
    process.join(None if seconds is None else 0)
    while seconds is not None and process.is_alive():
        try:
            if sum(psutil.Process(process.pid).cpu_times()[:2]) >= seconds:
                return
        except psutil.NoSuchProcess:
            return
        assert time.monotonic() < deadline, "the command hangs"
        time.sleep(0.005)


def moments(draw: random.Random, whole_s: float, n: int) -> list[Death]:
    """Return n moments of a command that takes so many seconds of processor time."""
    return [Death(seconds=draw.uniform(0.0, whole_s)) for _ in range(n)]


def _mortal(command: Callable[..., int], argv: list[str], death: Death, told: Path | None) -> int:
    passed = 0

    def at_window(act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(*given: Any, **named: Any) -> Any:
            nonlocal passed
            passed += 1
            if passed == death.window and death.side == "before":
                os._exit(DIED)
            result = act(*given, **named)
            if passed == death.window:
                os._exit(DIED)
            return result

        return acted

    for name in NAMING:
        setattr(os, name, at_window(getattr(os, name)))
    status = command(argv)
    if told is not None:
        told.write_text(f"{time.process_time()} {passed}")
    return status
