"""Rollouts: strategies tried in situations, by this process or by workers that an engine runs.

A job is one situation with the strategies to try there, so that no two workers write into the same situation's folder.
Texts are drawn where the policy is; only what they say travels.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.config import RunConfig
from agent.train.engine.engines import open_engine
from agent.train.engine.settings import EngineSettings
from agent.train.engine.work import Run, Work
from agent.train.policy.loaded import load_once
from agent.train.policy.rest_em import Judged
from agent.train.policy.situations import Situation, Wanted
from cao.progress import Progress, silent
from cao.strategies import Strategy
from cao.tasks.splits import MeasuredPart


@dataclass(frozen=True)
class Plan:
    """The situations that strategies are tried in; it travels to the workers, who lay them out for themselves.

    Attributes:
        folder: of all situations.
        config: of the runs that situations stand for.
        wanted: which they are.
    """

    folder: Path
    config: RunConfig
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True)
class Rollout:
    """One situation and what is tried there; without strategies, the situation is only made ready.

    Attributes:
        situation: its name.
        strategies: to try.
        part: measured on.
    """

    situation: str
    strategies: tuple[Strategy, ...] = ()
    part: MeasuredPart = "reward"


def lay_out(plan: Plan, progress: Progress) -> dict[str, Situation]:
    """Load the models and return the situations by name, in the plan's order; nothing is computed yet.

    Raises:
        InputError: no such task, too few questions, or a start adapter that is not the model's.
        UnavailableError: something needed is not at hand.
    """
    loaded = load_once(plan.folder, plan.config, progress)
    made = [Situation(loaded, wanted) for wanted in plan.wanted]
    return {situation.name: situation for situation in made}


def _quiet_worker(plan: Plan, progress: Progress) -> dict[str, Situation]:
    """Lay out a worker's situations without progress: the first process reports it, job by job."""
    return lay_out(plan, silent)


def roll_out(situations: Mapping[str, Situation], job: Rollout) -> list[Judged]:
    """Do one job and return what its strategies are worth."""
    situation = situations[job.situation]
    situation.prepare()
    return [situation.judge(strategy, job.part) for strategy in job.strategies]


class Rollouts:
    """Tries strategies on whatever an engine runs."""

    def __init__(self, run: Run[Rollout, list[Judged]]) -> None:
        """Take what does jobs."""
        self._run = run

    def prepare(self, names: Sequence[str], progress: Progress) -> None:
        """Bring situations to the point where the loop begins.

        Args:
            names: theirs.
            progress: called after each.
        """
        for done, _ in enumerate(self._run([Rollout(name) for name in names]), 1):
            progress("situations ready", done, len(names))

    def judge(
        self, asked: Mapping[str, Sequence[Strategy]], part: MeasuredPart = "reward"
    ) -> Iterator[tuple[str, list[Judged]]]:
        """Yield each situation with what its strategies are worth, as they are done.

        Args:
            asked: situation → strategies.
            part: measured on.
        """
        jobs = [Rollout(name, tuple(strategies), part) for name, strategies in asked.items()]
        for job, worth in self._run(jobs):
            yield job.situation, worth


@contextmanager
def open_rollouts(
    engine: EngineSettings, workers: int, plan: Plan, here: dict[str, Situation], progress: Progress
) -> Iterator[Rollouts]:
    """Yield what tries strategies.

    Args:
        engine: what runs the workers.
        workers: how many; one is this process.
        plan: the situations.
        here: this process's own.
        progress: called during long work.

    Raises:
        InputError: no workers.
        UnavailableError: the engine cannot be used.
    """
    work = Work(partial(_quiet_worker, plan), roll_out, offline=plan.config.offline)
    with open_engine(engine, workers, work, progress=progress, here=here) as run:
        yield Rollouts(run)
