"""How alike adapters are: cosines of ΔW = (α/r)·B·A, flattened over all modules, without making any ΔW.

⟨B₁A₁, B₂A₂⟩ = tr((B₁ᵀB₂)(A₂A₁ᵀ)), so that r x r products are enough.

Axis letters: T adapters, r rank.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cao.model.adapters import LoraWeights
from eval.generation.results import Alikeness, Cosines, Spread

Array = NDArray[np.float64]


def gram(adapters: Sequence[LoraWeights]) -> Array:
    """Return the inner products of the adapters' ΔW over all modules.

    Args:
        adapters: T adapters of one base model, with the same modules, rank and α.

    Returns:
        (T, T), float64.
    """
    first = adapters[0]
    assert all(
        (other.rank, other.alpha, other.modules()) == (first.rank, first.alpha, first.modules()) for other in adapters
    ), "adapters of different shapes"
    rank, total = first.rank, torch.zeros(len(adapters), len(adapters), dtype=torch.float64)
    for module in first.modules():
        a = torch.cat([each.tensors[f"{module}.lora_A.weight"] for each in adapters]).double()  # (T·r, in)
        b = torch.cat([each.tensors[f"{module}.lora_B.weight"].T for each in adapters]).double()  # (T·r, out)
        blocks = ((b @ b.T) * (a @ a.T)).view(len(adapters), rank, len(adapters), rank)
        total += blocks.sum((1, 3))
    scaled: Array = (total * (first.alpha / rank) ** 2).numpy()
    return scaled


def cosines(products: Array) -> Array:
    """Return the cosines that belong to inner products, (T, T); an adapter of length zero has cosine 0 with all."""
    lengths = np.sqrt(np.diag(products).clip(min=0))
    scale = np.outer(lengths, lengths)
    each: Array = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    return each


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
