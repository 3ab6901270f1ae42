"""How alike adapters are: cosines of ΔW = (α/r)·B·A, flattened over all modules, without making any ΔW.

⟨B₁A₁, B₂A₂⟩ = tr((B₁ᵀB₂)(A₂A₁ᵀ)), so that r x r products are enough.

Axis letters: T adapters, R the sum of their ranks.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cao.model.adapters import LoraWeights

Array = NDArray[np.float64]


def gram(adapters: Sequence[LoraWeights]) -> Array:
    """Return the inner products of the adapters' ΔW over all modules.

    Args:
        adapters: T adapters of one base model; ranks, α and modules may differ, and ΔW is zero where there is none.

    Returns:
        (T, T), float64.
    """
    total = torch.zeros(len(adapters), len(adapters), dtype=torch.float64)
    for module in sorted({module for each in adapters for module in each.modules()}):
        name = f"{module}.lora_A.weight"
        having = [(t, each) for t, each in enumerate(adapters) if name in each.tensors]
        a = torch.cat([each.tensors[name].double() for _, each in having])  # (R, in)
        b = torch.cat(
            [each.tensors[f"{module}.lora_B.weight"].T.double() * (each.alpha / each.rank) for _, each in having]
        )  # (R, out)
        owner = torch.zeros(len(a), len(adapters), dtype=torch.float64)  # one in the column of a row's adapter
        owner[torch.arange(len(a)), torch.tensor([t for t, each in having for _ in range(each.rank)])] = 1
        total += owner.T @ ((b @ b.T) * (a @ a.T)) @ owner
    products: Array = total.numpy()
    return products


def cosines(products: Array) -> Array:
    """Return the cosines that belong to inner products, (T, T); an adapter of length zero has cosine 0 with all."""
    lengths = np.sqrt(np.diag(products).clip(min=0))
    scale = np.outer(lengths, lengths)
    each: Array = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    return each


def pairwise(adapters: Sequence[LoraWeights]) -> Array:
    """Return the cosine of every pair, (pairs,); adapters that change nothing have no direction and are left out."""
    products = gram(adapters)
    changing = np.diag(products) > 0
    found = cosines(products[np.ix_(changing, changing)])
    pairs: Array = found[np.triu_indices(len(found), k=1)]
    return pairs
