"""Jobs for the engines' tests, in a module that workers in other processes can import soon.

``python -m tests.agent.train.engine.engine_jobs ADDRESS FOLDER`` does some on a cluster.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.train.engine.engines import open_engine
from agent.train.engine.settings import EngineSettings
from agent.train.engine.work import Work
from cao.errors import InputError
from cao.progress import Progress


@dataclass(frozen=True)
class Desk:
    """What a worker works with: a folder where each start is written down."""

    folder: Path
    progress: Progress

    def note(self, kind: str, name: str) -> None:
        """Write down, in a file of its own, that this process began something."""
        stamp = f"{time.time_ns()}"
        (self.folder / f"{kind}.{name}.{os.getpid()}.{stamp}").touch()


def begun(folder: Path, kind: str, name: str = "*") -> list[tuple[str, int]]:
    """Return (name, process) of everything of a kind that was begun, in order."""
    found = sorted(folder.glob(f"{kind}.{name}.*.*"), key=lambda path: path.name.rsplit(".", 1)[1])
    return [(path.name.split(".")[1], int(path.name.split(".")[2])) for path in found]


def sit_down(folder: Path, progress: Progress) -> Desk:
    desk = Desk(folder, progress)
    desk.note("worker", "setup")
    return desk


def square(desk: Desk, job: int) -> int:
    """Note the start, wait where there is a file ``wait-JOB``, and return the square."""
    desk.note("job", str(job))
    print(f"job {job} prints on standard output")  # noqa: T201  (must not get into the command's result)
    while (desk.folder / f"wait-{job}").exists():
        time.sleep(0.02)
    return job**2


def refuse(desk: Desk, job: int) -> int:
    if job == 1:
        raise InputError("job 1 is damaged; delete it")
    return job


def fail(desk: Desk, job: int) -> int:
    return job // 0


def die(desk: Desk, job: int) -> int:
    if job == 1:
        desk.note("job", "1")
        os._exit(9)
    return job


if __name__ == "__main__":  # ADDRESS FOLDER: squares of three numbers by two workers of a cluster
    with open_engine(
        EngineSettings(kind="ray", address=sys.argv[1]), 2, Work(partial(sit_down, Path(sys.argv[2])), square)
    ) as run:
        found = sorted(run([1, 2, 3]))
    print(json.dumps(found))  # noqa: T201
