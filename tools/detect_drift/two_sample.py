"""One window against one known task: energy distance, classifier odds and option signals, tested together."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from cao.types import TaskEvidence
from tools.detect_drift.energy import TIE, PairwiseDistances, distances
from tools.detect_drift.known_tasks import KnownTasks
from tools.detect_drift.permutation import Array, draw_windows, min_p

_ROUND = 6
"""Decimals of a score below which two prompts count as equally odd."""


def compare(
    known: KnownTasks,
    window: Tensor,
    signals: Tensor | None,
    *,
    permutations: int,
    seed: int,
    names: Sequence[str] = (),
) -> dict[str, TaskEvidence]:
    """Test whether a window comes from each of the known tasks.

    Three statistics see the same relabellings of the window and the reference's held half: the energy distance of the
    embeddings to the whole reference, which notices any difference; the ranks of the classifier's odds against the
    task, which notice a share of prompts from another known task; and, where the model was asked, the energy distance
    of its option signals.

    Args:
        known: the known tasks.
        window: (n, C).
        signals: (n, 2), or None.
        permutations: B; 0 only measures.
        seed: of the permutations.
        names: the tasks to test, all of them if empty.

    Returns:
        Task to what was found.
    """
    own = distances(window, window)
    logs = known.log_probabilities(window)
    evidence = {}
    for name in names or known.names:
        reference = known.references[name]
        pairs = PairwiseDistances(own, distances(window, reference.embeddings), reference.distances)
        measured = {"distance": pairs.energy_distance, "effect": pairs.energy_coefficient}
        if not permutations:
            evidence[name] = TaskEvidence(**measured)
            continue
        alone = len(known.names) == 1  # nothing was trained, so that every row may play the window
        held = torch.arange(len(reference.embeddings)) if alone else reference.halves[1]
        drawn = draw_windows(len(window), len(window) + len(held), permutations, seed)
        statistics = {"energy": pairs.relabelled(held, drawn)}
        ties = [TIE * pairs.between.mean().item()]
        if not alone:
            odds = [known.odds_against(name, rows) for rows in (logs, known.held_log_probabilities[name])]
            statistics["mixture"] = rank_sums(np.concatenate(odds), drawn)
            ties.append(1e-9)
        if signals is not None and reference.signals is not None:
            statistics["signals"] = _signal_distances(signals, reference.signals).relabelled(held, drawn)
            ties.append(TIE)
        each, together = min_p(np.stack(list(statistics.values())), np.array(ties))
        p_values = {f"p_{kind}": float(p) for kind, p in zip(statistics, each, strict=True)}
        evidence[name] = TaskEvidence(**measured, **p_values, p_value=together)
    return evidence


def rank_sums(scores: Array, drawn: NDArray[np.int64]) -> Array:
    """Return Fisher's combination of pooled ranks for each draw: −Σ log of the share of rows that are as odd.

    A few very odd prompts weigh as much as many slightly odd ones, so a minority from elsewhere is noticed.

    Args:
        scores: (N,), pooled; large is odd.
        drawn: (B + 1, n), the rows that play the window.

    Returns:
        (B + 1,).
    """
    oddness = -np.log(rankdata(-np.round(scores, _ROUND), method="max") / len(scores))
    result: Array = oddness[drawn].sum(1)
    return result


def _signal_distances(signals: Tensor, usual: Tensor) -> PairwiseDistances:
    """Return the distances of option signals, each in units of its standard deviation in the reference."""
    scale = usual.std(0).clamp(min=1e-6)
    mine, theirs = signals / scale, usual / scale
    return PairwiseDistances(distances(mine, mine), distances(mine, theirs), distances(theirs, theirs))
