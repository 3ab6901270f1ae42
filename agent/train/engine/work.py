"""Independent jobs over workers: what they share, whichever engine runs them."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

from agent.train.clock import Clock
from cao.command_line import quiet_libraries
from cao.errors import UnavailableError
from cao.progress import Progress

S = TypeVar("S")
J = TypeVar("J")
R = TypeVar("R")

Run = Callable[[Sequence[J]], Iterator[tuple[J, R]]]
"""Does jobs that do not need each other and yields each with its result, in the order in which they are done."""

RETRIES = 3
"""How often a job is done again whose worker died."""


class WorkerDiedError(UnavailableError, Generic[J]):
    """Workers died at some jobs again and again; all other jobs are done.

    Attributes:
        jobs: at which they died.
    """

    def __init__(self, jobs: Sequence[J]) -> None:
        """Say so, and what to do."""
        at = "one job" if len(jobs) == 1 else f"each of {len(jobs)} jobs"
        advice = "give the same command again, with fewer --workers if memory was short"
        super().__init__(f"a worker died {RETRIES + 1} times at {at}; {advice}")
        self.jobs = tuple(jobs)


@dataclass(frozen=True)
class Work(Generic[S, J, R]):
    """What workers do; beyond one process it travels, so it is made of functions that can be imported, and of data.

    A worker sets itself up once, when its first job comes. Files are named by paths that mean the same everywhere: the
    workers of a cluster share the folders of this machine.

    Attributes:
        setup: makes what a worker works with, its model for example; it is given what to tell of long work.
        do: does one job. Whatever it writes, it writes in one step, since a job may be done again.
        offline: never touch the network.
    """

    setup: Callable[[Progress], S]
    do: Callable[[S, J], R]
    offline: bool = False


def begin(work: Work[S, J, R], threads: int, folder: Path) -> S:
    """Set up a worker in a process of its own and return what it works with.

    Args:
        work: what it will do.
        threads: its share of the cores: two workers that spin on the same ones are slower than one.
        folder: the folder that relative paths start from.

    Raises:
        UnavailableError: this machine does not have the folder.
    """
    quiet_libraries(offline=work.offline)
    try:
        os.chdir(folder)
    except OSError:
        missing = f"a worker on {os.uname().nodename} has no folder {folder}"
        raise UnavailableError(f"{missing}; the machines of a cluster have to share it") from None
    torch.set_num_threads(threads)
    return work.setup(Clock([], 0).progress)
