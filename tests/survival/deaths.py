"""Commands that die: at a moment, or at the n-th time that they give a file its name.

They run in processes forked from one that has imported what commands import, as ``tests.agent.killing`` says.
"""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.agent.killing import PATIENCE_S, forked

NAMING = ("replace", "rename")
"""The functions of ``os`` that give a file its name; each call is a window, before it and behind it."""
DIED = 37
"""Exit status of a process that ended itself without a word."""


@dataclass(frozen=True)
class Death:
    """When a command dies: after so many seconds, or at its n-th window; neither is never."""

    seconds: float | None = None
    window: int | None = None
    side: Literal["before", "behind"] = "before"


NEVER = Death()


def lived(command: Callable[..., int], argv: list[str], death: Death = NEVER, count: Path | None = None) -> int:
    """Run a command in a process of its own and return its exit status: -9 or ``DIED`` where it died.

    Args:
        command: a function of a module, so that the other process can find it.
        argv: its arguments.
        death: when it dies.
        count: a file that gets the number of windows that it went through.
    """
    process = forked(_mortal, command, argv, death, count)
    end = time.monotonic() + (PATIENCE_S if death.seconds is None else death.seconds)
    process.join(max(0.0, end - time.monotonic()))
    if process.is_alive():
        assert death.seconds is not None, "the command hangs"
        process.kill()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def moments(draw: random.Random, whole_s: float, n: int) -> list[Death]:
    """Return n moments of a command that takes so many seconds."""
    return [Death(seconds=draw.uniform(0.0, whole_s)) for _ in range(n)]


def _mortal(command: Callable[..., int], argv: list[str], death: Death, count: Path | None) -> int:
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
    if count is not None:
        count.write_text(str(passed))
    return status
