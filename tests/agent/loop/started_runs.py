"""Runs to look into: one that nothing disturbed, and one that was interrupted early."""

import io
import os
import signal
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.run import main


@dataclass
class Started:
    """How runs are started here, one that nothing disturbed, and the folder of one that was interrupted early."""

    argv: list[str]
    record: dict[str, Any]
    whole: Path
    cut: Path
    told: str
    status: int


def command(argv: list[str], *more: str) -> tuple[int, str, str]:
    """Run the command; return its status, output and errors."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = main([*argv, *more])
    return status, out.getvalue(), err.getvalue()


def begun(node: str, out: Path) -> Path:
    """Wait until the only run in a folder has come to a node, and return the run's folder."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in out.glob("*/trace.jsonl"):
            if f'"{node}", "event": "start"' in path.read_text():
                return path.parent
        time.sleep(0.001)
    raise TimeoutError(node)


def terminate_at(node: str, out: Path) -> threading.Thread:
    """Ask this process to terminate once the only run in a folder has come to a node."""

    def wait() -> None:
        begun(node, out)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def resume(started: Started, folder: Path) -> tuple[int, str, str]:
    return command([*started.argv, "--out", str(folder.parent)], "--resume", folder.name)
