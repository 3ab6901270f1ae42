"""Does the order of a window carry information? Every test here assumes that it does not."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tools.detect_drift.permutation import Array
from tools.detect_drift.window import MIN_PROMPTS

ORDER_LEVEL = 0.01
"""p-value of the order at which a report warns."""

ORDERS = 999
"""Permutations of an order that are enough for both levels."""

REACH_LEVEL = 0.05
"""p-value of the likeness at some distance down to which it counts."""


def order_test(embeddings: Tensor, permutations: int, seed: int) -> float:
    """Test whether neighbouring prompts are more alike than others.

    Rows of a file are often twins, and a stream has sessions; then a window holds fewer independent prompts than it
    seems to, and an undrifted one alarms too often.

    Args:
        embeddings: (n, C), unit length, in the order in which the prompts came; n ≥ 3.
        permutations: B, of the order.
        seed: of the permutations.

    Returns:
        The one-sided p-value (k+1)/(B+1) of the mean cosine of neighbours.
    """
    assert len(embeddings) >= 3, embeddings.shape
    return _p_value(_cosines(embeddings), 1, _orders(len(embeddings), permutations, seed))


def reach(embeddings: Tensor, permutations: int, seed: int) -> int:
    """Return how far apart two prompts of a stream must stand to be no more alike than any two.

    Twins in a row give 2, sessions about their length. Prompts that far apart may be judged as independent ones.

    Args:
        embeddings: (n, C), unit length, in the order in which the prompts came.
        permutations: B, of the order.
        seed: of the permutations.

    Returns:
        The smallest distance at which nothing is noticed, 1 for a stream without order; at most n / 8, for what stands
        closer together than that leaves too few independent prompts to see more.
    """
    farthest = max(1, len(embeddings) // MIN_PROMPTS)
    if farthest == 1:
        return 1
    cosines, orders = _cosines(embeddings), _orders(len(embeddings), permutations, seed)
    distances = range(1, farthest)
    return next((d for d in distances if _p_value(cosines, d, orders) > REACH_LEVEL), farthest)


def _cosines(embeddings: Tensor) -> Array:
    cosines: Array = (embeddings @ embeddings.T).double().numpy()
    return cosines


def _orders(n: int, permutations: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permuted(np.tile(np.arange(n), (permutations, 1)), axis=1)


def _p_value(cosines: Array, apart: int, orders: NDArray[np.int64]) -> float:
    """Return the p-value of the mean cosine of prompts that stand ``apart`` places from each other."""
    observed = np.diagonal(cosines, apart).mean()
    reached = int((cosines[orders[:, :-apart], orders[:, apart:]].mean(1) >= observed - 1e-6).sum())
    return (reached + 1) / (len(orders) + 1)
