"""Permutation p-values of several statistics at once, each alone and all together.

All statistics see the same relabellings. The smallest of their p-values is then itself a statistic with a known
permutation distribution (Westfall and Young's min-p), so the combined test keeps its level exactly and loses nothing
to a correction for the number of tests.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@lru_cache(maxsize=16)
def draw_windows(n: int, pool: int, permutations: int, seed: int) -> NDArray[np.int64]:
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
    rows = np.arange(pool, dtype=np.int64)
    drawn = np.stack([rows[:n], *(rng.permutation(rows)[:n] for _ in range(permutations))])
    drawn.setflags(write=False)
    return drawn


def min_p(statistics: Array, ties: Array) -> tuple[Array, float]:
    """Return the permutation p-value of each statistic and of their combination.

    Args:
        statistics: (S, B + 1), the observed values first; large means unlike the reference.
        ties: (S,), differences that count as none: embeddings differ by rounding between batch sizes.

    Returns:
        (S,) p-values (k+1)/(B+1), and that of the smallest of them, in [1/(B+1), 1].

    Source: Westfall and Young, Resampling-Based Multiple Testing, 1993; (k+1)/(B+1): Phipson and Smyth 2010.
    """
    assert ties.shape == statistics.shape[:1], (ties.shape, statistics.shape)
    each = np.stack([_p_values(row, tie) for row, tie in zip(statistics, ties, strict=True)])
    smallest = each.min(0)
    return each[:, 0], float((smallest <= smallest[0] + 0.5 / statistics.shape[1]).mean())


def _p_values(statistic: Array, tie: float) -> Array:
    at_least = len(statistic) - np.searchsorted(np.sort(statistic), statistic - tie, side="left")
    result: Array = at_least / len(statistic)
    return result


def smallest_p(n: int, pool: int, permutations: int) -> float:
    """Return the smallest p-value that a window of ``n`` can get: 1/(B+1), or one of all relabellings if fewer."""
    log_ways = sum(np.log(pool - i) - np.log(n - i) for i in range(n))
    return max(1 / (permutations + 1), float(np.exp(-log_ways)))
