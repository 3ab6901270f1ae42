"""The one call that a table's cell makes of a baseline: choose its rate, prepare it, adapt it to a target.

It takes a baseline's class and knows none of them, so that what was made by one survives a change of another.
"""

import time
from dataclasses import dataclass, field
from typing import Literal

from cao.errors import InputError
from cao.model.adapters import LoraWeights
from cao.progress import Progress, silent
from cao.types import Record
from eval.baselines.base import Fixed
from eval.baselines.baseline import Baseline, Budget, Prepared, Spent, adapted, fingerprint_of, prepared
from eval.baselines.descent import Read
from eval.baselines.ground import Ground, Target, ground_of
from eval.generation.workshop import Workshop
from eval.kept import Kept

REHEARSED = 3
"""Sources that stand in for a target while a rate is chosen."""

HELD = 32
"""Questions of each that judge a rate."""

Rules = Literal["paper", "equal"]
"""A paper's own hyper-parameters, or an equal budget with a rate from the grid."""


@dataclass(frozen=True)
class Cell:
    """A baseline on a task, ready to be scored.

    Attributes:
        weights: the adapter; None for the base model.
        baseline: with the hyper-parameters that were taken.
        choosing: spent on choosing a rate.
        preparing: spent on the source tasks with the rate that was taken, and on checkpoints of theirs.
        adapting: spent on the target.
        losses: rate → loss on train questions that no training had, of the rates that were tried; None where the
            training diverged.
    """

    weights: LoraWeights | None
    baseline: Baseline
    choosing: Spent
    preparing: Spent
    adapting: Spent
    losses: dict[float, float | None] = field(default_factory=dict)


def run_cell(
    workshop: Workshop,
    kind: type[Baseline],
    task: str,
    seed: int,
    *,
    rules: Rules,
    budget: Budget | None = None,
    progress: Progress = silent,
) -> Cell:
    """Return a baseline on a task; whatever of it is done already is not done again.

    Args:
        workshop: an opened consolidation: model, sources, checkpoints.
        kind: of baseline.
        task: that it is adapted to, and never sees before.
        seed: of the run whose support and reward questions it reads.
        rules: whose hyper-parameters.
        budget: for ``equal``.
        progress: called during long work.

    Raises:
        InputError: no budget, the task lacks what the method reads, or the training diverged.
        UnavailableError: something needed is not at hand.
    """
    ground = ground_of(workshop, task, progress)
    baseline, ready, choosing, losses = made_ready(kind, ground, rules, budget)
    target = target_of(kind, ground, task, seed)
    made = adapted(baseline, ground, ready, target)
    preparing, adapting = ready.spent, made.spent
    if kind.of_sources:
        preparing, adapting = preparing + adapting, Spent()
    return Cell(made.weights, baseline, choosing, preparing, adapting, losses)


def made_ready(
    kind: type[Baseline], ground: Ground, rules: Rules, budget: Budget | None
) -> tuple[Baseline, Prepared, Spent, dict[float, float | None]]:
    """Return a baseline with its preparation, and what choosing its rate took; all targets of a ground share them.

    Args:
        kind: of baseline.
        ground: the sources.
        rules: whose hyper-parameters.
        budget: for ``equal``.

    Raises:
        InputError: no budget, or the training diverged.
        UnavailableError: something needed is not at hand.
    """
    choosing, losses = Spent(), dict[float, float | None]()
    if rules == "paper":
        baseline = kind.paper()
    elif budget is None:
        raise InputError("equal rules need a budget")
    else:
        rate, choosing, losses = chosen_rate(kind, ground, budget)
        baseline = kind.equal(budget.left() if kind.rated else budget, rate, ground)
    return baseline, prepared(baseline, ground), choosing, losses


def prepares(kind: type[Baseline]) -> bool:
    """Return whether a baseline learns from the sources by itself; checkpoints of theirs are not its own."""
    return kind.prepare is not Baseline.prepare and not issubclass(kind, Fixed)


def target_of(kind: type[Baseline], ground: Ground, task: str, seed: int) -> Target:
    """Return a target with the parts that a baseline reads.

    Raises:
        InputError: it reads train questions, and the task has none to give.
    """
    return ground.target(task, seed, train=kind.reads == "train labels")


def chosen_rate(kind: type[Baseline], ground: Ground, budget: Budget) -> tuple[float, Spent, dict[float, float | None]]:
    """Return the rate of the lowest loss after a short training at each, what that took, and the losses.

    Each rate is tried with a share of the preparation's tokens. It is then adapted to a few sources in the place of a
    target, and judged by train questions of theirs that no training has. Neither a target nor a test part is read.

    Args:
        kind: of baseline.
        ground: the sources.
        budget: whose rates are tried; what a rate that diverged read counts, its steps do not.

    Raises:
        InputError: every rate diverged.
    """
    if not kind.rated or len(budget.rates) == 1:
        return budget.rates[0], Spent(), {}
    trials = [kind.equal(budget.tried(), rate, ground) for rate in budget.rates]
    depends_on = [fingerprint_of(trial, ground) for trial in trials]
    chosen = Kept(ground.folder).record(
        f"{kind.name}-rate", depends_on, Chosen, lambda: _searched(kind, ground, budget)
    )
    return chosen.rate, chosen.spent, chosen.losses


class Chosen(Record):
    """A rate with what choosing it took, and rate → loss of all that were tried; None where it diverged."""

    rate: float
    spent: Spent
    losses: dict[float, float | None]


def _searched(kind: type[Baseline], ground: Ground, budget: Budget) -> Chosen:
    spent, losses = Spent(), dict[float, float | None]()
    for rate in budget.rates:
        trial, began = kind.equal(budget.tried(), rate, ground), time.monotonic()
        with Read.by(ground.lm) as read:
            try:
                losses[rate], took = _rehearsed(trial, ground)
            except InputError as error:
                if "diverged" not in str(error):
                    raise
                losses[rate] = None
                took = Spent(tokens=read.tokens, seconds=round(time.monotonic() - began, 3))
        spent += took
    kept = {rate: loss for rate, loss in losses.items() if loss is not None}
    if not kept:
        raise InputError(f"{kind.name} diverged at every rate of {', '.join(f'{rate:g}' for rate in losses)}")
    return Chosen(rate=min(kept, key=lambda rate: kept[rate]), spent=spent, losses=losses)


def _rehearsed(baseline: Baseline, ground: Ground) -> tuple[float, Spent]:
    """Return a baseline's mean loss on sources that stand in for targets, and what that took."""
    ready = prepared(baseline, ground)
    spent, total = ready.spent, 0.0
    names = ground.variant.sources[:: max(1, len(ground.variant.sources) // REHEARSED)][:REHEARSED]
    for name in names:
        target = ground.rehearsal(name)
        made = adapted(baseline, ground, ready, target)
        spent += made.spent
        held = ground.examples(name, held_back=True)[:HELD]
        rows = ground.objective.rows(ground.lm, target.task, held, ground.row_tokens)
        with ground.lm.adapted(made.weights):
            total += float(ground.objective.loss(ground.lm, rows, gradient=False))
    return total / len(names), spent
