"""Commands that are killed without warning, as ``kill -9`` or a power cut does.

They run in processes forked from one that has imported what commands import: done once, not before each kill.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from typing import Any

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["agent.session", "agent.train.policy.run", "agent.stream.watcher", "sentence_transformers"]
)
PATIENCE_S = 240


def killed(awaited: Callable[[], bool], command: Callable[..., int], *given: Any) -> None:
    """Start a command in another process and kill it, without warning, once something has come about.

    Args:
        awaited: whether it has.
        command: a function of a module, so that the other process can find it.
        given: its arguments.
    """
    process = forked(command, *given)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while process.is_alive() and not awaited():
            assert time.monotonic() < deadline, "what was waited for never came"
            time.sleep(0.002)
    finally:
        process.kill()
        process.join()
    assert awaited(), f"the command ended, with {process.exitcode}, before it could be killed"


def forked(command: Callable[..., int], *given: Any) -> ForkServerProcess:
    """Start a command in another process, without output, and return that.

    Args:
        command: a function of a module, so that the other process can find it.
        given: its arguments.
    """
    process = _FORKS.Process(target=_run, args=(dict(os.environ), command, given))
    process.start()
    return process


def _run(environment: dict[str, str], command: Callable[..., int], given: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    status = command(*given)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one that comes when the command has ended is not for it
    sys.exit(status)
