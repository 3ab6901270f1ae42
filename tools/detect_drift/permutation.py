"""Permutation p-values of several statistics at once, each alone and all together.

All statistics see the same relabellings. Any combination of their p-values is then itself a statistic with a known
permutation distribution, whatever their dependence, so the combined test keeps its level exactly.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.signedinteger]
"""Row numbers, in the smallest type that holds them."""

SLICE = 8192
"""Draws that are dealt with together."""


@lru_cache(maxsize=4)
def draw_windows(n: int, pool: int, permutations: int, seed: int) -> Rows:
    """Draw which pooled rows play the window; the first draw is the window itself.

    Args:
        n: rows of the window, the first ``n`` of the pooled rows.
        pool: n + the rows that are exchangeable with the window's under the null hypothesis.
        permutations: B.
        seed: of the draws without replacement.

    Returns:
        (B + 1, n) row numbers, shared by all tasks whose references are equally large: read only.
    """
    assert 1 <= n <= pool, (n, pool)
    rng = np.random.default_rng(seed)
    kind = np.min_scalar_type(-pool)  # the draws of many permutations fill most of the memory
    drawn = np.tile(np.arange(n, dtype=kind), (permutations + 1, 1))
    for part in slices(drawn[1:]):
        rows = np.tile(np.arange(pool, dtype=kind), (len(part), 1))
        draws = np.arange(len(part))
        for place in range(n):  # the first n exchanges of a Fisher–Yates shuffle, in all draws of a part at once
            other = rng.integers(place, pool, len(part))
            rows[draws, place], rows[draws, other] = rows[draws, other], rows[draws, place]
        part[:] = rows[:, :n]
    drawn.setflags(write=False)
    return drawn


def slices(drawn: Rows, size: int = SLICE) -> Iterator[Rows]:
    """Yield views of so many draws at once: what is computed from all of them together would fill memory."""
    for start in range(0, len(drawn), size):
        yield drawn[start : start + size]


def combine(each: Sequence[Array]) -> Array:
    """Return the p-values of several statistics together for every relabelling, (B + 1,), in [1/(B+1), 1].

    The sum of squared logarithms stands between Fisher's combination, the sum of logarithms, in which one strong
    statistic drowns among silent ones, and the smallest p-value, to which weak evidence that agrees is nothing.

    Args:
        each: for each statistic the (B + 1,) p-values of all relabellings, the observed one first.

    Source: nonparametric combination, Pesarin and Salmaso, Permutation Tests for Complex Data, 2010, §4.
    """
    return p_values((np.log(np.stack(each)) ** 2).sum(0), 1e-9)


def p_values(statistic: Array, tie: float) -> Array:
    """Return the permutation p-value (k+1)/(B+1) of every relabelling, (B + 1,).

    Args:
        statistic: (B + 1,), the observed value first; large means unlike the reference.
        tie: a difference that counts as none: embeddings differ by rounding between batch sizes.

    Source: (k+1)/(B+1): Phipson and Smyth 2010.
    """
    at_least = len(statistic) - np.searchsorted(np.sort(statistic), statistic - tie, side="left")
    result: Array = at_least / len(statistic)
    return result


def smallest_p(n: int, pool: int, permutations: int) -> float:
    """Return the smallest p-value that a window of ``n`` can get: 1/(B+1), or one of all relabellings if fewer."""
    log_ways = sum(np.log(pool - i) - np.log(n - i) for i in range(n))
    return max(1 / (permutations + 1), float(np.exp(-log_ways)))
