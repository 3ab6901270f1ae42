"""The engines by name, and how one is opened."""

from collections.abc import Iterator
from contextlib import contextmanager

from agent.train.engine import local, on_ray
from agent.train.engine.settings import EngineSettings
from agent.train.engine.work import J, R, Run, S, Work
from cao.errors import InputError
from cao.progress import Progress, silent

ENGINES = {"local": local, "ray": on_ray}
"""One module each, with ``check`` and ``workers``."""


def check_engine(settings: EngineSettings) -> None:
    """Refuse an engine that is not at hand, before anything is computed.

    Raises:
        UnavailableError: it is not installed, or nothing answers at its address.
    """
    ENGINES[settings.kind].check(settings)


@contextmanager
def open_engine(
    settings: EngineSettings,
    count: int,
    work: Work[S, J, R],
    *,
    progress: Progress = silent,
    here: S | None = None,
) -> Iterator[Run[J, R]]:
    """Yield what does jobs on workers; it may be called several times, one call after the other.

    An error of ours that a job raises is raised where its result would have come; the other jobs that are at work are
    given up. A worker that dies costs the job that it was at, which is done again, ``RETRIES`` times; where workers die
    at it even then, it is told when all others are done.

    Args:
        settings: which engine, and where.
        count: workers, at least 1.
        work: what they do.
        progress: called during long work in this process; workers elsewhere write to standard error.
        here: what this process works with where it is its own only worker, None to set it up.

    Raises:
        InputError: no workers, or more than the engine has room for.
        UnavailableError: the engine cannot be used.
        WorkerDiedError: what the result does when asked for: a job's workers died again and again.
    """
    if count < 1:
        raise InputError("--workers is 1 or more")
    check_engine(settings)
    with ENGINES[settings.kind].workers(settings, count, work, progress, here) as run:
        yield run
