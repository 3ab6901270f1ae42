"""What policies came to: means, intervals over tasks and seeds, and the trained policy against the others.

Axis letters: T tasks, S seeds, R bootstrap draws.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

from agent.train.policy.report import Empty
from eval.generation.bootstrap import interval
from eval.policies.results import Aim, Cell, Cells, Mean, PoliciesResult, Ratio, Verdict, Verdicts, Versus

Array = NDArray[np.float64]

REPETITIONS = 10_000
RANDOM, ORACLE = "random", "oracle"

TIMES = 2.0
"""What the trained policy's first attempts are to be, in those of the random one; the interval excludes equality."""

GAIN, SHARE = 0.03, 0.6
"""What the best point of the grid is to gain on test, in accuracy, the interval excludes 0; and what share of that
the trained policy's loop is to find."""

OVER_BASE, BELOW = 0.05, -0.01
"""What the policy's loop is to leave above the base model on test, in accuracy: on average, and on every task."""

REPAIRED = "boolq"
"""The task on which it is to be as much above the base model as on average: adapters alone are below it there."""

LEVEL = 0.05
"""Of the two-sided test that goes with each interval."""

USABLE = 0.95
"""Share of the draws that must have a ratio: an interval over fewer leaves out what speaks against the ratio."""


class Picks:
    """Bootstrap draws of T tasks, and of S seeds within each; the same ones for every policy, so that pairs stay pairs.

    A policy's values in the seeds of one task are more alike than those of different tasks, so tasks are drawn first.
    """

    def __init__(self, tasks: int, seeds: int, repetitions: int = REPETITIONS) -> None:
        """Draw with replacement.

        Args:
            tasks: T.
            seeds: S.
            repetitions: R.
        """
        rng = np.random.default_rng(0)
        self._tasks = rng.integers(0, tasks, (repetitions, tasks))
        self._seeds = rng.integers(0, seeds, (repetitions, tasks, seeds))

    def means(self, values: Array) -> Array:
        """Return (R,) the mean of each draw from (T, S) values."""
        drawn: Array = values[self._tasks[:, :, None], self._seeds].mean((1, 2))
        return drawn


def first_share(cell: Cell) -> float:
    """Return the share of a policy's first attempts that improve the model."""
    improved, drawn = cell.first
    return improved / drawn


def values(cells: Cells, tasks: Sequence[str], seeds: Sequence[int], value: Callable[[Cell], float]) -> Array:
    """Return (T, S) of one value.

    Args:
        cells: of one policy.
        tasks: T names.
        seeds: S.
        value: of a cell.
    """
    return np.array([[value(cells[f"{task}-{seed}"]) for seed in seeds] for task in tasks], dtype=np.float64)


def verdicts(result: PoliciesResult, tasks: Sequence[str]) -> Verdicts:
    """Return policy → what it came to over some tasks; a policy that speaks of none of them is left out.

    Args:
        result: what was measured.
        tasks: names.
    """
    spoken = {
        name: [task for task in tasks if f"{task}-{result.seeds[0]}" in cells] for name, cells in result.cells.items()
    }
    return {name: _verdict(result, name, tasks) for name, tasks in spoken.items() if tasks}


def _verdict(result: PoliciesResult, name: str, tasks: Sequence[str]) -> Verdict:
    picks = Picks(len(tasks), len(result.seeds))

    def mean(value: Callable[[Cell], float]) -> Mean:
        each = values(result.cells[name], tasks, result.seeds, value)
        return Mean(mean=float(each.mean()), ci95=interval(picks.means(each)))

    return Verdict(
        tasks=tuple(tasks),
        first=mean(first_share),
        improved=mean(lambda cell: cell.improved),
        attempts=mean(lambda cell: cell.attempts),
        reward_accuracy=mean(lambda cell: cell.reward[0]),
        reward_loss=mean(lambda cell: cell.reward[1]),
        test_accuracy=mean(lambda cell: cell.test[0]),
        test_loss=mean(lambda cell: cell.test[1]),
        against_random=versus(result, name, RANDOM, tasks),
    )


def versus(result: PoliciesResult, name: str, other: str, tasks: Sequence[str]) -> Versus | None:
    """Return how the first attempts of two policies compare in the same situations, None for a policy with itself.

    Args:
        result: what was measured.
        name: of the one.
        other: of the other, which is left out of tasks that it does not speak of.
        tasks: names.
    """
    seeds, cells = result.seeds, result.cells
    both = [task for task in tasks if f"{task}-{seeds[0]}" in cells[other]]
    if name == other or not both:
        return None
    mine, theirs = (values(cells[who], both, seeds, first_share) for who in (name, other))
    picks = Picks(len(both), len(seeds))
    ratio = ratio_of(mine, theirs, picks)
    return Versus(
        tasks=tuple(both),
        differ=int(np.count_nonzero((mine - theirs).mean(1))),
        difference=float((mine - theirs).mean()),
        ci95=interval(picks.means(mine) - picks.means(theirs)),
        ratio=ratio.mean if ratio else None,
        ratio_ci95=ratio.ci95 if ratio else None,
        p=sign_flips((mine - theirs).mean(1)),
    )


def ratio_of(mine: Array, theirs: Array, picks: Picks) -> Ratio | None:
    """Return the ratio of two means, its interval over the draws in which the other one's is positive.

    Where these are too few, there is none.

    Args:
        mine: (T, S) values of the one.
        theirs: (T, S) of the other; where their mean is not positive, there is no ratio.
        picks: the draws.
    """
    if theirs.mean() <= 0:
        return None
    drawn_mine, drawn_theirs = picks.means(mine), picks.means(theirs)
    usable = drawn_theirs > 0
    ci95 = interval(drawn_mine[usable] / drawn_theirs[usable]) if usable.mean() >= USABLE else None
    return Ratio(mean=float(mine.mean() / theirs.mean()), ci95=ci95)


def aim_of(result: PoliciesResult, tasks: Sequence[str], held_out: Verdicts) -> Aim | Empty:
    """Return whether the last trained policy reaches what it is to reach on held-out tasks.

    Args:
        result: what was measured.
        tasks: that no policy was trained on.
        held_out: what each policy came to on them.
    """
    trained = list(result.policies)
    if not trained or not tasks:
        return Empty()
    name = trained[-1]
    fixed = [other for other in held_out if other.startswith(("always", "paper"))]
    against = {other: versus(result, name, other, tasks) for other in (RANDOM, "untrained", *fixed)}
    random, over = against[RANDOM], over_base(result, name, tasks)
    by_task = dict(zip(tasks, over.mean(1).tolist(), strict=True))
    ratio = random.ratio if random else None
    return Aim(
        policy=name,
        against=against,
        times_random=ratio,
        reached_random=ratio is not None and at_least(ratio, TIMES) and random is not None and surely_above(random),
        above_every_fixed=all(surely_above(compared) for compared in (against[o] for o in fixed) if compared),
        oracle=held_out[ORACLE].test_accuracy,
        oracle_p=sign_flips(values(result.cells[ORACLE], tasks, result.seeds, lambda cell: cell.test[0]).mean(1)),
        adopted=held_out[name].test_accuracy,
        share=share_of(result, name, tasks),
        over_base=Mean(mean=float(over.mean()), ci95=interval(Picks(*over.shape).means(over))),
        over_base_p=sign_flips(over.mean(1)),
        lowest=min(by_task.items(), key=lambda one: one[1]),
        repaired=by_task.get(REPAIRED),
    )


def share_of(result: PoliciesResult, name: str, tasks: Sequence[str]) -> Ratio | None:
    """Return the share of the oracle's gain on test that a policy's loop finds, None where the oracle gains nothing.

    Args:
        result: what was measured.
        name: of the policy.
        tasks: names.
    """
    found, best = (values(result.cells[who], tasks, result.seeds, lambda cell: cell.test[0]) for who in (name, ORACLE))
    return ratio_of(found, best, Picks(*best.shape))


def over_base(result: PoliciesResult, name: str, tasks: Sequence[str]) -> Array:
    """Return (T, S): accuracy on test of what a policy's loop leaves, less that of the base model by its best rule.

    Args:
        result: what was measured.
        name: of the policy.
        tasks: T names.
    """
    pairs = [[result.untouched[f"{task}-{seed}"] for seed in result.seeds] for task in tasks]
    starts = np.array([[one.start - one.base for one in row] for row in pairs], dtype=np.float64)
    return starts + values(result.cells[name], tasks, result.seeds, lambda cell: cell.test[0])


def at_least(figure: float, aim: float) -> bool:
    """Return whether a figure reaches an aim; rounding of the last digits does not make it miss."""
    return figure >= aim - 1e-9


def surely_above(compared: Versus) -> bool:
    """Return whether a policy surely succeeds more often; few tasks make an interval too short, so p must say so."""
    return compared.ci95[0] > 0 and compared.p <= LEVEL


def sign_flips(differences: Array) -> float:
    """Return the two-sided p-value of a mean difference of zero, over flips of signs: exact up to 13 differences.

    Args:
        differences: (n,) paired, independent of each other: means over the seeds of a task, not the seeds' own.
    """
    if len(differences) < 2 or not differences.any():
        return 1.0
    test = permutation_test(
        (differences,),
        lambda signed, axis: signed.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=10_000,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)
