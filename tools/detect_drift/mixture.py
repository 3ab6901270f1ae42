"""Is a window a mixture of the known tasks? The shares that come closest, and a test of whether they explain it.

The energy distance between a sample and Σ π_k P_k is a quadratic form in π, so the closest mixture is a small convex
program. How close a true mixture comes is learnt by drawing windows from the references with those shares.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.detect_drift.energy import distances
from tools.detect_drift.known_tasks import KnownTasks
from tools.detect_drift.permutation import Array

MIXTURE_ROWS = 256
"""Rows of a window that the fit looks at; more would not change what it says."""

_STEPS = 300


def explain_by_mixture(known: KnownTasks, window: Tensor, draws: int, seed: int) -> tuple[dict[str, float], float]:
    """Return the shares of the known tasks that explain a window best, and the p-value of that explanation.

    Args:
        known: two tasks or more.
        window: (n, C), n ≥ 2.
        draws: windows drawn from the fitted mixture, each fitted anew.
        seed: of the draws.

    Returns:
        Task → share (they sum to 1), and the share of draws that lie as far from their own closest mixture, in
        [1/(draws+1), 1]; small means that something unknown is in the window.
    """
    assert min(len(known.names), len(window)) >= 2, (known.names, window.shape)
    rng = np.random.default_rng(seed)
    if len(window) > MIXTURE_ROWS:
        window = window[np.sort(rng.choice(len(window), MIXTURE_ROWS, replace=False))]
    samples = [reference.embeddings for reference in known.references.values()]
    owner = np.repeat(np.arange(len(samples)), [len(sample) for sample in samples])
    rows = torch.cat(samples)
    to_tasks = known.mean_distances
    between = np.stack([to_tasks[owner == k].mean(0) for k in range(len(samples))])
    between = (between + between.T) / 2
    observed_to = np.stack([distances(window, sample).mean(1).numpy() for sample in samples], axis=1).mean(0)
    shares, least = _closest(observed_to[None], between, np.array([_spread(window)]))
    n = len(window)
    to, spreads = [], []
    for _ in range(draws):
        drawn = _draw(rng, shares[0], owner, n)
        to.append(to_tasks[drawn].mean(0))
        spreads.append(_spread(rows[torch.from_numpy(drawn)]))
    _, lengths = _closest(np.stack(to), between, np.array(spreads))
    p_value = (1 + int((lengths >= least[0] - 1e-9).sum())) / (draws + 1)
    return {name: float(share) for name, share in zip(known.names, shares[0], strict=True)}, p_value


def _draw(rng: np.random.Generator, shares: Array, owner: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return ``n`` row numbers of a window with these expected shares, no row twice where the tasks have enough."""
    counts = rng.multinomial(n, shares / shares.sum())
    parts = [
        rng.choice(np.flatnonzero(owner == k), count, replace=bool(count > (owner == k).sum()))
        for k, count in enumerate(counts)
    ]
    return np.concatenate(parts)


def _spread(rows: Tensor) -> float:
    single = rows.float()  # a draw's spread needs no more, and this is the costly part
    n = len(single)
    return (torch.cdist(single, single).sum() / (n * (n - 1))).item()


def _closest(to: Array, between: Array, spreads: Array) -> tuple[Array, Array]:
    """Minimise 2·π·a − πᵀGπ − s over the simplex, for many windows at once, by exponentiated gradient.

    Args:
        to: (W, K), a: mean distance of each window to each task.
        between: (K, K), G: mean distance between tasks.
        spreads: (W,), s: mean distance within each window.

    Returns:
        (W, K) shares and (W,) energy distances.
    """
    own = np.diagonal(between)
    rate = 1 / max(
        float((2 * between - own - own[:, None]).max()), 1e-9
    )  # the curvature's bound, so each step descends
    shares = np.full(to.shape, 1 / to.shape[1])
    for _ in range(_STEPS):
        slope = 2 * (to - shares @ between)
        shares = shares * np.exp(-rate * (slope - slope.min(1, keepdims=True)))
        shares /= shares.sum(1, keepdims=True)
    return shares, 2 * (shares * to).sum(1) - ((shares @ between) * shares).sum(1) - spreads
