"""The cells of a table, made by workers that an engine runs: what is there is read, what fails leaves a reason.

A kill costs the cell that is at work, and of a training or a run no more than the time since its last checkpoint.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from agent.train.clock import span
from agent.train.engine.engines import open_engine
from agent.train.engine.settings import EngineSettings
from agent.train.engine.work import Run, Work, WorkerDiedError
from cao.progress import Progress
from cao.types import Record
from eval.baselines.baseline import preparation_path
from eval.baselines.cell import made_ready, prepares
from eval.baselines.registry import BASELINES
from eval.paper.cells.desk import Desk
from eval.paper.cells.kept import Answered, Key, Shelf, depends_on, fill, fingerprint_of
from eval.paper.cells.reckoning import Reckoning, plan_text
from eval.paper.reasons import reason
from eval.paper.rows import CHECKPOINTED

PREPARED = tuple(name for name, kind in BASELINES.items() if kind.rated or prepares(kind))
"""Baselines that learn, or choose a rate, on the sources before the target is known: once for all targets of a fold."""


@dataclass(frozen=True)
class Job:
    """One cell to be made, or the preparation that several cells of a row share.

    Attributes:
        key: of the cell, or of the first of them.
        source: whose checkpoints are trained; empty where the job is not that.
        about: what the cell depends on; None for a preparation.
        serves: the cells that a preparation is for.
    """

    key: Key
    source: str = ""
    about: dict[str, object] | None = field(default=None, compare=False)
    serves: tuple[Key, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """What it is, in words."""
        if self.source:
            return f"checkpoints of {self.source}"
        return str(self.key) if self.about else f"preparation of {self.key.row} for {self.key.task}"

    @property
    def kind(self) -> str:
        """What it is counted with."""
        if self.source:
            return "checkpoints of sources"
        return self.key.row if self.about else f"preparation of {self.key.row}"


class Outcome(Record):
    """What came of a job: why there is nothing, empty where there is; and how long it took."""

    reason: str = ""
    seconds: float = 0.0


def do(desk: Desk, job: Job) -> Outcome:
    """Do one job; a method's defect does not cost the others."""
    began = time.monotonic()
    try:
        if job.source:
            desk.workshop.consolidation.checkpoints(job.source)
        elif job.about is None:
            _prepare(desk, job.key)
        else:
            fill(desk, Shelf(desk.shared.work, desk.shared.options.protocol), job.key, job.about)
        why = ""
    except Exception as error:  # noqa: BLE001  (any defect is told, with the command that shows it)
        why = _why(desk, job.key, error)
    return Outcome(reason=why, seconds=round(time.monotonic() - began, 1))


def _why(desk: Desk, key: Key, error: Exception) -> str:
    """Return why there is no cell; of a defect with the command that shows it."""
    one = f"--methods {key.row} --tasks {key.task} --seeds {key.seed}"
    return reason(error, f"{desk.shared.command} {one}")


def _prepare(desk: Desk, key: Key) -> None:
    made_ready(BASELINES[key.row], desk.ground(key.task), desk.shared.options.rules, desk.budget(key.task))


@dataclass
class Found:
    """The cells of a table.

    Attributes:
        cells: those that are there.
        absent: why others are not.
        jobs: what is to be done first, and then; with the seconds that it is reckoned to take.
    """

    cells: dict[Key, Answered] = field(default_factory=dict)
    absent: dict[Key, str] = field(default_factory=dict)
    jobs: tuple[dict[Job, float], dict[Job, float]] = field(default_factory=lambda: ({}, {}))

    def reasons(self) -> dict[str, int]:
        """Return why cells cannot be had, and how many for each reason."""
        return dict(Counter(self.absent.values()))

    def plan(self) -> dict[str, tuple[int, float]]:
        """Return row or preparation → how many jobs, and their seconds."""
        listed: dict[str, tuple[int, float]] = {}
        for jobs in self.jobs:
            for job, seconds in jobs.items():
                count, before = listed.get(job.kind, (0, 0.0))
                listed[job.kind] = count + 1, before + seconds
        return listed


def look(desk: Desk, keys: Sequence[Key]) -> Found:
    """Return which cells are there, which cannot be, and what is to be done for the others.

    Args:
        desk: models and sources.
        keys: the cells.

    Raises:
        InputError: a kept cell is damaged.
    """
    found, reckoning = Found(), Reckoning(desk)
    shelf = Shelf(desk.shared.work, desk.shared.options.protocol)
    prepared, made_of = dict[tuple[str, str], list[Key]](), dict[str, list[Key]]()
    for key in keys:
        try:
            about = depends_on(desk, key)
        except Exception as error:  # noqa: BLE001  (any defect is told, with the command that shows it)
            found.absent[key] = _why(desk, key, error)
            continue
        if (kept := shelf.read(key, fingerprint_of(about))) is not None:
            found.cells[key] = kept
            continue
        try:
            lacking, seconds = lacking_checkpoints(desk, key), reckoning.cell(key)
        except Exception as error:  # noqa: BLE001  (as above)
            found.absent[key] = _why(desk, key, error)
            continue
        if key.row in PREPARED and not is_prepared(desk, key):
            prepared.setdefault((key.row, desk.ground(key.task).variant.name), []).append(key)
        for source in lacking:
            made_of.setdefault(source, []).append(key)
        found.jobs[1][Job(key, about=about)] = seconds
    for source, keys_of_one in made_of.items():
        job = Job(keys_of_one[0], source, serves=tuple(keys_of_one))
        found.jobs[0][job] = reckoning.checkpoints(job.key)
    for keys_of_one in prepared.values():
        first = keys_of_one[0]
        found.jobs[0][Job(first, serves=tuple(keys_of_one))] = reckoning.preparation(first)
    return found


def lacking_checkpoints(desk: Desk, key: Key) -> list[str]:
    """Return the sources whose checkpoints a cell's adapter is made of and that are not there."""
    if key.row not in CHECKPOINTED:
        return []
    sources = CHECKPOINTED[key.row].sources(desk.ground(key.task), key.task, key.seed)
    return [source for source in sources if not desk.workshop.has(f"checkpoints/{source}-average")]


def is_prepared(desk: Desk, key: Key) -> bool:
    """Return whether what a cell's baseline learns and chooses on the sources is there."""
    kind, ground, budget = BASELINES[key.row], desk.ground(key.task), desk.budget(key.task)
    if not budget:
        return preparation_path(kind.paper(), ground).exists()
    left = budget.left() if kind.rated else budget  # only the chosen rate's preparation spends what trials left
    return any(preparation_path(kind.equal(left, rate, ground), ground).exists() for rate in budget.rates)


def complete(desk: Desk, found: Found, engine: EngineSettings, progress: Progress) -> Found:
    """Make the missing cells and return all of them.

    Args:
        desk: this process's own.
        found: what ``look`` returned.
        engine: what runs the workers.
        progress: called during long work in this process.
    """
    shared = desk.shared
    if not found.jobs[1]:
        return found
    eta, workers = Eta(found, shared.options.workers), shared.options.workers
    work = Work(partial(Desk, shared), do, offline=shared.options.offline)
    shelf = Shelf(shared.work, shared.options.protocol)
    cells, absent = dict(found.cells), dict(found.absent)
    with open_engine(engine, workers, work, progress=progress, here=desk if workers == 1 else None) as run:
        for jobs in found.jobs:
            left = [job for job in jobs if job.key not in absent]
            for job in jobs:
                if job.key in absent:
                    eta.finished(job, jobs[job], Outcome(reason=absent[job.key]))
            for job, outcome in _outcomes(desk, run, left) if left else iter(()):
                eta.finished(job, jobs[job], outcome)
                if outcome.reason:  # a preparation that failed would fail again for each cell
                    absent |= dict.fromkeys(job.serves or (job.key,), outcome.reason)
                elif job.about is not None:
                    kept = shelf.read(job.key, fingerprint_of(job.about))
                    assert kept is not None, job
                    cells[job.key] = kept
    return Found(cells, absent)


def _outcomes(desk: Desk, run: Run[Job, Outcome], jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
    """Yield what came of each job; one at which workers died again and again does not cost the others."""
    try:
        yield from run(jobs)
    except WorkerDiedError as error:
        for job in error.jobs:
            yield job, Outcome(reason=_why(desk, job.key, error))


class Eta:
    """Says how far a table is and how long it will take yet.

    What was reckoned is scaled by what it took so far, so the guess follows the machine.
    """

    def __init__(self, found: Found, workers: int) -> None:
        """Say what there is to do."""
        self._left = sum(sum(jobs.values()) for jobs in found.jobs)
        self._reckoned, self._took, self._workers = 0.0, 0.0, workers
        self._done, self._total = 0, sum(map(len, found.jobs))
        there = f"{len(found.cells)} cells are there, {len(found.jobs[1])} are to be made"
        _say(f"{there}\n{plan_text(found.plan(), workers)}")

    def finished(self, job: Job, reckoned: float, outcome: Outcome) -> None:
        """Count a job, and say what came of it and how long the others will take."""
        self._done += 1
        self._left -= reckoned
        if not outcome.reason:  # what failed says nothing of the machine
            self._reckoned += reckoned
            self._took += outcome.seconds
        what = f"n/a: {outcome.reason}" if outcome.reason else f"took {span(outcome.seconds)}"
        left = f"; about {span(self.left)} left" if self._done < self._total else ""
        _say(f"[{self._done}/{self._total} done] {job.name} {what}{left}")

    @property
    def left(self) -> float:
        """Seconds until the end."""
        factor = self._took / self._reckoned if self._reckoned and self._took else 1.0
        return max(0.0, self._left) * factor / self._workers


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
