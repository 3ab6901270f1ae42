"""``engine``: what a second worker is worth, the same scoring cells on one worker and on two, by turns.

Each worker has one thread, and setting up (a process, a model) is not counted: a consolidation or a table works for
hours with the workers that it has.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from agent.train.engine.engines import check_engine, open_engine
from agent.train.engine.settings import EngineSettings
from agent.train.engine.work import Run, Work
from cao.errors import InputError
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.model.profiles import check_model
from cao.progress import Progress
from cao.tasks import get_task
from cao.tasks.splits import part
from cao.types import AdaptedModel, Example
from eval.bench.measure import BenchResult, Line, machine, ratio
from eval.bench.options import EngineBench
from tools.evaluate import evaluate

WARM_UP = -1
"""The job that sets a worker up and is not counted."""


@dataclass(frozen=True)
class _Worker:
    """What a worker works with."""

    lm: LanguageModel
    options: EngineBench
    questions: list[Example]


@dataclass(frozen=True)
class _Cell:
    """One cell: who did it, from when to when by the machine's clock, on how much of a core, and the losses, nats."""

    process: int
    began: float
    ended: float
    cpu_s: float
    losses: tuple[float, ...]


class EngineResult(BenchResult):
    """What two workers do in the time of one.

    Attributes:
        engine: what ran the workers.
        model: a model profile.
        task: whose questions were scored.
        cells: independent jobs.
        questions: of each.
        threads: of each worker.
        seconds: workers → of each repetition.
        cpu_seconds: the same of all cells' processors: where others use the machine, ``ratio`` says how the cores were
            shared and these say what the workers cost each other.
        ratios: of each repetition.
        ratio: one worker's median time over that of two, None where the machine was too noisy.
        equal: whether every answer was the same on both sides.
        spread: of the ratio.
        noisy: what scatters too widely.
    """

    engine: str
    model: str
    task: str
    cells: int
    questions: int
    threads: int
    seconds: dict[str, list[float]]
    cpu_seconds: dict[str, list[float]]
    ratios: list[float]
    ratio: float | None
    equal: bool
    spread: float
    noisy: list[str]

    def lines(self) -> list[Line]:
        """Return the figures in words."""
        return [
            ("engine", f"{self.engine}, one thread a worker"),
            ("cells", f"{self.cells} of {self.questions} questions of {self.task}, {self.model}"),
            ("two workers over one", ratio(self.seconds["1"], self.seconds["2"]).text()),
            (
                "processor time of the cells, two workers over one",
                ratio(self.cpu_seconds["2"], self.cpu_seconds["1"]).text(),
            ),
            ("same answers", "yes" if self.equal else "no"),
        ]


def bench(options: EngineBench, settings: EngineSettings) -> EngineResult:
    """Measure what two workers do in the time of one.

    Args:
        options: what is measured.
        settings: the engine; it runs on this machine.

    Raises:
        InputError: an unknown model or task, or too few questions.
        UnavailableError: the engine, the model or the data are not at hand.
    """
    check_model(options.model)
    check_engine(settings)
    _questions(options)
    described = machine()
    seconds: dict[int, list[float]] = {1: [], 2: []}
    cpu: dict[int, list[float]] = {1: [], 2: []}
    losses = set()
    with _one_thread():
        for _ in range(options.repetitions):
            for count, took in seconds.items():
                done = _measured(settings.model_copy(update={"cpus": None}), count, options)
                took.append(max(cell.ended for cell in done) - min(cell.began for cell in done))
                cpu[count].append(sum(cell.cpu_s for cell in done))
                losses.add(tuple(cell.losses for cell in done))
    gained = ratio(seconds[1], seconds[2])
    return EngineResult(
        bench="engine",
        machine=described,
        repetitions=options.repetitions,
        engine=settings.kind,
        model=options.model,
        task=options.task,
        cells=options.cells,
        questions=options.limit,
        threads=1,
        seconds={str(count): took for count, took in seconds.items()},
        cpu_seconds={str(count): took for count, took in cpu.items()},
        ratios=[one / two for one, two in zip(seconds[1], seconds[2], strict=True)],
        ratio=gained.stated,
        equal=len(losses) == 1,
        spread=gained.scatter,
        noisy=["ratio"] * gained.noisy,
    )


def _measured(settings: EngineSettings, count: int, options: EngineBench) -> list[_Cell]:
    """Return the cells in order, done by workers that were set up before."""
    work = Work(partial(_set_up, options), _score, offline=options.offline)
    with open_engine(settings, count, work) as run:
        _warm_up(run, count)
        done = dict(run(range(options.cells)))
    return [done[cell] for cell in range(options.cells)]


def _warm_up(run: Run[int, _Cell], count: int) -> None:
    """Give jobs that are not counted, until every worker has had one."""
    seen: set[int] = set()
    for _ in range(10):
        seen |= {done.process for _, done in run([WARM_UP] * 2 * count)}
        if len(seen) >= count:
            return


def _questions(options: EngineBench) -> list[Example]:
    asked = part(get_task(options.task), "test")[: options.cells * options.limit]
    if len(asked) < options.cells * options.limit or not all(example.choices for example in asked):
        raise InputError(f"{options.task} has too few questions with choices; give fewer cells or questions")
    return asked


def _set_up(options: EngineBench, progress: Progress) -> _Worker:
    return _Worker(load_model(options), options, _questions(options))


def _score(worker: _Worker, cell: int) -> _Cell:
    first = max(cell, 0) * worker.options.limit
    asked: Sequence[Example] = worker.questions[first : first + (4 if cell == WARM_UP else worker.options.limit)]
    began, cpu = time.time(), time.process_time()
    items = evaluate(get_task(worker.options.task), asked, AdaptedModel(), "likelihood", lm=worker.lm)
    losses = tuple(item.loss for item in items)
    return _Cell(os.getpid(), began, time.time(), time.process_time() - cpu, losses)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
