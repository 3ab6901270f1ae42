"""What policies' successes say: means, intervals over tasks and seeds, and the trained policy against the others.

Axis letters: T tasks, S seeds, R bootstrap draws.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

from eval.generation.bootstrap import interval

Array = NDArray[np.float64]
Cells = Mapping[str, Mapping[str, Any]]
"""Situation, which is ``TASK-SEED`` → what came of a policy there."""

REPETITIONS = 10_000
RANDOM = "random"


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


def table(cells: Cells, tasks: Sequence[str], seeds: Sequence[int], key: str, place: int | None = None) -> Array:
    """Return (T, S) of one value; ``first`` as a share of the draws.

    Args:
        cells: of one policy.
        tasks: T names.
        seeds: S.
        key: of the value.
        place: 0 for the accuracy and 1 for the log-loss of a gain.
    """

    def value(cell: Any) -> float:
        found = cell[key]
        return found[0] / found[1] if key == "first" else float(found if place is None else found[place])

    return np.array([[value(cells[f"{task}-{seed}"]) for seed in seeds] for task in tasks], dtype=np.float64)


def judge(result: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    """Return row → what its policy came to over some tasks; a policy that does not speak of all is left out of none.

    Args:
        result: what ``policies.analyse`` returned.
        tasks: names.
    """
    found, seeds = dict[str, Any](), result["seeds"]
    for name, cells in result["cells"].items():
        spoken = [task for task in tasks if f"{task}-{seeds[0]}" in cells]
        if not spoken:
            continue
        picks = Picks(len(spoken), len(seeds))

        def told(key: str, place: int | None = None) -> dict[str, Any]:
            values = table(cells, spoken, seeds, key, place)  # noqa: B023  (called in this turn of the loop only)
            return {"mean": float(values.mean()), "ci95": list(interval(picks.means(values)))}  # noqa: B023

        found[name] = {
            "tasks": spoken,
            "first": told("first"),
            "improved": told("improved"),
            "attempts": told("attempts"),
            "reward_accuracy": told("reward", 0),
            "reward_loss": told("reward", 1),
            "test_accuracy": told("test", 0),
            "test_loss": told("test", 1),
            "against_random": versus(result, name, RANDOM, spoken),
        }
    return found


def versus(result: Mapping[str, Any], name: str, other: str, tasks: Sequence[str]) -> dict[str, Any] | None:
    """Return how the first attempts of two policies compare in the same situations, None for a policy with itself.

    Args:
        result: what ``policies.analyse`` returned.
        name: of the one.
        other: of the other, which is left out of tasks that it does not speak of.
        tasks: names.

    Returns:
        ``difference`` of the success rates with ``ci95``; ``ratio`` with ``ratio_ci95``, None where the other never
        succeeds; ``p``, two-sided, by flipping signs of situations' differences.
    """
    seeds, cells = result["seeds"], result["cells"]
    both = [task for task in tasks if f"{task}-{seeds[0]}" in cells[other]]
    if name == other or not both:
        return None
    mine, theirs = (table(cells[who], both, seeds, "first") for who in (name, other))
    picks = Picks(len(both), len(seeds))
    drawn_mine, drawn_theirs = picks.means(mine), picks.means(theirs)
    usable = drawn_theirs > 0
    ratio = float(mine.mean() / theirs.mean()) if theirs.mean() > 0 else None
    return {
        "tasks": both,
        "difference": float((mine - theirs).mean()),
        "ci95": list(interval(drawn_mine - drawn_theirs)),
        "ratio": ratio,
        "ratio_ci95": list(interval(drawn_mine[usable] / drawn_theirs[usable])) if ratio is not None else None,
        "p": sign_flips((mine - theirs).ravel()),
    }


def sign_flips(differences: Array) -> float:
    """Return the two-sided p-value of a mean difference of zero, over flips of signs: exact up to 13 differences.

    Args:
        differences: (n,) paired.
    """
    if len(differences) < 2 or not differences.any():
        return 1.0
    found = permutation_test(
        (differences,),
        lambda values, axis: values.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=10_000,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)
