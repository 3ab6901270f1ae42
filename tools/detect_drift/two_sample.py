"""One window against one known task: distances, outliers, a classifier's odds and option signals, tested together."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from cao.drift import TaskEvidence
from tools.detect_drift.energy import TIE, PairwiseDistances, distances
from tools.detect_drift.known_tasks import KnownTasks
from tools.detect_drift.permutation import Array, Rows, combine, draw_windows, p_values, slices

_ROUND = 6
"""Decimals of a score below which two prompts count as equally odd."""

_RANK_TIE = 1e-9


def compare(
    known: KnownTasks,
    window: Tensor,
    apart: Mapping[str, Tensor],
    logs: Array,
    signals: Tensor | None,
    *,
    permutations: int,
    seed: int,
) -> dict[str, TaskEvidence]:
    """Test whether a window comes from each of some known tasks.

    All statistics see the same relabellings of the window and the reference's held half. Three are of the prompts: the
    energy distance of the embeddings to the whole reference, which notices any difference; the ranks of the prompts'
    remoteness from the task's neighbours, which notice a share of prompts from elsewhere; and the ranks of the
    classifier's odds against the task, which notice a share from another known task. Two are of the option signals,
    where the model was asked: their energy distance, and the ranks of their odds against the task.

    Args:
        known: the known tasks.
        window: (n, C).
        apart: for each task to test, (n, m), the distances of the window to its reference.
        logs: (n, K), the window's log-probabilities of the known tasks.
        signals: (n, 2), or None.
        permutations: B; 0 only measures.
        seed: of the permutations.

    Returns:
        Task → evidence.
    """
    own = distances(window, window)
    evidence = {}
    for name, between in apart.items():
        reference = known.references[name]
        pairs = PairwiseDistances(own, between, reference.distances)
        measured = {"distance": pairs.energy_distance, "effect": pairs.energy_coefficient}
        if not permutations:
            evidence[name] = TaskEvidence(**measured)
            continue
        alone = len(known.names) == 1  # nothing was trained, so that every row may play the window
        held = torch.arange(len(reference.embeddings)) if alone else reference.halves[1]
        drawn = draw_windows(len(window), len(window) + len(held), permutations, seed)
        of_prompts = {"p_energy": p_values(pairs.relabelled(held, drawn), TIE * between.mean().item())}
        if not alone:
            remote = np.concatenate([reference.remoteness(between), reference.held_remoteness])
            odds = np.concatenate([known.odds_against(name, logs), known.held_odds[name]])
            of_prompts["p_outliers"] = p_values(rank_sums(remote, drawn), _RANK_TIE)
            of_prompts["p_mixture"] = p_values(rank_sums(odds, drawn), _RANK_TIE)
        of_signals = _signal_p_values(known, name, signals, held, drawn) if signals is not None else []
        measured |= {kind: float(p[0]) for kind, p in of_prompts.items()}
        together = combine(list(of_prompts.values()))
        measured["p_prompts"] = float(together[0])
        if of_signals:
            signalled = combine(of_signals)
            measured["p_signals"] = float(signalled[0])
            together = combine([together, signalled])
        evidence[name] = TaskEvidence(**measured, p_value=float(together[0]))
    return evidence


def _signal_p_values(known: KnownTasks, name: str, signals: Tensor, held: Tensor, drawn: Rows) -> list[Array]:
    """Return the p-values of all relabellings under each statistic of the option signals, none without signals."""
    usual = known.references[name].signals
    if usual is None:
        return []
    under = [p_values(_signal_distances(signals, usual).relabelled(held, drawn), TIE)]
    odds = known.signal_odds_against(name, torch.cat([signals, usual[held]]))
    return under if odds is None else [*under, p_values(rank_sums(odds, drawn), _RANK_TIE)]


def rank_sums(scores: Array, drawn: Rows) -> Array:
    """Return Fisher's combination of pooled ranks for each draw: −Σ log of the share of rows that are as odd.

    A few very odd prompts weigh as much as many slightly odd ones, so a minority from elsewhere is noticed.

    Args:
        scores: (N,), pooled; large is odd.
        drawn: (B + 1, n), the rows that play the window.

    Returns:
        (B + 1,).
    """
    oddness = -np.log(p_values(np.round(scores, _ROUND), 0.0))
    result: Array = np.concatenate([oddness[rows].sum(1) for rows in slices(drawn)])
    return result


def _signal_distances(signals: Tensor, usual: Tensor) -> PairwiseDistances:
    """Return the distances of option signals, each in units of its standard deviation in the reference."""
    scale = usual.std(0).clamp(min=1e-6)
    mine, theirs = signals / scale, usual / scale
    return PairwiseDistances(distances(mine, mine), distances(mine, theirs), distances(theirs, theirs))
