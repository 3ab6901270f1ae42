"""The engine ``local``: jobs in this process, or in several on this machine."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Generic

import torch

from agent.train.engine.settings import EngineSettings
from agent.train.engine.work import RETRIES, J, R, Run, S, Work, WorkerDiedError, begin
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
    given = work, max(1, torch.get_num_threads() // count), Path.cwd()
    desks: list[_Desk[R]] = [_Desk(partial(ProcessPoolExecutor, 1, context, _open_worker, given)) for _ in range(count)]

    def run(jobs: Sequence[J]) -> Iterator[tuple[J, R]]:
        waiting, idle, dead = deque((job, 0) for job in jobs), list(desks), list[J]()
        at = dict[Future[R], tuple[_Desk[R], J, int]]()
        while waiting or at:
            while waiting and idle:
                desk, (job, deaths) = idle.pop(), waiting.popleft()
                at[desk.give(job)] = desk, job, deaths
            done, _ = wait(at, return_when=FIRST_COMPLETED)
            for future in done:
                desk, job, deaths = at.pop(future)
                idle.append(desk)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    dead.append(job) if deaths == RETRIES else waiting.appendleft((job, deaths + 1))
                    continue
                yield job, result
        if dead:
            raise WorkerDiedError(dead)

    try:
        yield run
    except BaseException:
        for child in multiprocessing.active_children():
            if child not in others:
                child.terminate()  # what they were at goes on from its last checkpoint
        raise
    finally:
        for desk in desks:
            desk.pool.shutdown(cancel_futures=True)


class _Desk(Generic[R]):
    """A pool of one worker, so that it is known at which job a worker died; another worker follows one that did."""

    def __init__(self, opened: Callable[[], ProcessPoolExecutor]) -> None:
        self._opened, self.pool = opened, opened()

    def give(self, job: object) -> Future[R]:
        try:
            return self.pool.submit(_do, job)
        except BrokenProcessPool:
            self.pool.shutdown()
            self.pool = self._opened()
            return self.pool.submit(_do, job)


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
