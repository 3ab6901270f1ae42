"""The engine ``local``: jobs in this process, or in several on this machine."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from agent.train.engine.settings import EngineSettings
from agent.train.engine.work import J, R, Run, S, Work, begin
from cao.errors import UnavailableError
from cao.progress import Progress


def check(settings: EngineSettings) -> None:
    """This engine is always at hand."""


@contextmanager
def workers(
    settings: EngineSettings, count: int, work: Work[S, J, R], progress: Progress, here: S | None
) -> Iterator[Run[J, R]]:
    """Yield what does jobs; ``agent.train.engine.engines.open_engine`` says more."""
    opened = _in_process(work, progress, here) if count == 1 else _processes(count, work)
    with opened as run:
        yield run


@contextmanager
def _in_process(work: Work[S, J, R], progress: Progress, here: S | None) -> Iterator[Run[J, R]]:
    state = work.setup(progress) if here is None else here

    def run(jobs: Sequence[J]) -> Iterator[tuple[J, R]]:
        for job in jobs:
            yield job, work.do(state, job)

    yield run


@contextmanager
def _processes(count: int, work: Work[S, J, R]) -> Iterator[Run[J, R]]:
    context, others = multiprocessing.get_context("spawn"), multiprocessing.active_children()
    threads = max(1, torch.get_num_threads() // count)
    pool = ProcessPoolExecutor(count, context, _open_worker, (work, threads, Path.cwd()))

    def run(jobs: Sequence[J]) -> Iterator[tuple[J, R]]:
        pending = {pool.submit(_do, job): job for job in jobs}
        for future in as_completed(pending):
            yield pending[future], future.result()

    try:
        yield run
    except BaseException as error:
        for child in multiprocessing.active_children():
            if child not in others:
                child.terminate()  # what they were at goes on from its last checkpoint
        if isinstance(error, BrokenProcessPool):
            advice = "give the same command again, with --workers 1 if memory was short"
            raise UnavailableError(f"a worker ended without a word; {advice}") from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_held: list[Any] = []
"""In a worker: its work, its threads and its folder, and then what it works with."""


def _open_worker(work: Work[S, J, R], threads: int, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to tell of
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _held[:] = [work, threads, folder]


def _leave_with_parent() -> None:
    """End this process when its parent is gone: a killed command must not work on beside the one that resumes it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(1)


def _do(job: object) -> Any:
    work = _held[0]
    if len(_held) == 3:  # here, not when the process starts: what fails in a job has a message, not a broken pool
        _held.append(begin(*_held))
    return work.do(_held[3], job)
