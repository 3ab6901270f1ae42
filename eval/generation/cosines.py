"""How alike the adapters of tasks are, from one half of a task's prompts and from the other.

Axis letter: T tasks.
"""

from collections.abc import Sequence

import numpy as np

from cao.model.adapters import LoraWeights
from cao.model.cosines import Array, cosines, gram
from cao.types import Record


class Spread(Record):
    """Mean, lowest and highest of some cosines."""

    mean: float
    low: float
    high: float


class Alikeness(Record):
    """How alike the tasks' adapters are.

    Attributes:
        matrix: (T, T) cosines, rounded.
        within: tasks, from disjoint halves of their prompts.
        between: different tasks; None for a single one.
    """

    matrix: tuple[tuple[float, ...], ...]
    within: Spread | None
    between: Spread | None


class Cosines(Record):
    """Cosines of ΔW between adapters that one generator makes.

    Attributes:
        variant: the generator.
        seed: of the support prompts.
        tasks: T names.
        whole: of ΔW.
        centred: of ΔW less the mean over tasks.
    """

    variant: str
    seed: int
    tasks: tuple[str, ...]
    whole: Alikeness
    centred: Alikeness


def centred(products: Array) -> Array:
    """Return the inner products of the adapters less their mean, (T, T)."""
    rows = products.mean(0, keepdims=True)
    moved: Array = products - rows - rows.T + products.mean()
    return moved


def halves(doubled: Array) -> Array:
    """Return how alike the tasks are, (T, T), from the cosines of 2T adapters: first halves, then second halves.

    Entry (i, j) is the mean cosine of a half of i's prompts with the *other* half of j's, so that the diagonal, two
    disjoint sets of prompts of one task, is measured like the rest.
    """
    count = len(doubled) // 2
    across = doubled[:count, count:]
    mean: Array = (across + across.T) / 2
    return mean


def alikeness(
    tasks: Sequence[str], first: Sequence[LoraWeights], second: Sequence[LoraWeights], *, variant: str, seed: int
) -> Cosines:
    """Return the cosines within and between tasks, of ΔW and of ΔW less the mean over all adapters.

    Args:
        tasks: T names.
        first: an adapter of each task, from one half of its prompts.
        second: the same from the other half.
        variant: the generator that made them.
        seed: of the prompts.
    """
    products = gram([*first, *second])
    whole, less_mean = (_alikeness(halves(cosines(inner))) for inner in (products, centred(products)))
    return Cosines(variant=variant, seed=seed, tasks=tuple(tasks), whole=whole, centred=less_mean)


def _alikeness(matrix: Array) -> Alikeness:
    same = np.eye(len(matrix), dtype=bool)
    rounded = tuple(tuple(round(float(value), 4) for value in row) for row in matrix)
    return Alikeness(matrix=rounded, within=_spread(matrix[same]), between=_spread(matrix[~same]))


def _spread(values: Array) -> Spread | None:
    if not len(values):
        return None
    return Spread(mean=float(values.mean()), low=float(values.min()), high=float(values.max()))
