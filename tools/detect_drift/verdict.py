"""From a window's embeddings to a verdict: the tests against every known task, and the kind of drift they amount to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor

from cao.drift import DriftKind, DriftReport, TaskEvidence
from tools.detect_drift.feedback import judge_feedback
from tools.detect_drift.known_tasks import KnownTasks
from tools.detect_drift.mixture import explain_by_mixture
from tools.detect_drift.order import ORDERS, order_test
from tools.detect_drift.permutation import smallest_p
from tools.detect_drift.two_sample import compare
from tools.detect_drift.window import MIN_PROMPTS

MIXTURE_DRAWS = 199
"""Windows drawn from the closest mixture of known tasks, to see whether it explains the window."""


@dataclass(frozen=True, eq=False)
class Window:
    """What was measured of a window's distinct prompts, in an order that does not depend on theirs.

    Attributes:
        embeddings: (n, C), unit length, n ≥ 1.
        order: (n,), row numbers in the order in which the prompts came.
        signals: (n, 2), option signals, or None.
        correct: outcomes, None where nobody knows, of all that the n were drawn from; empty without labels.
        covered: whether the encoder was trained on the script of most prompts.

    Raises:
        ValueError: values that are not finite.
    """

    embeddings: Tensor
    order: NDArray[np.int64]
    signals: Tensor | None
    correct: Sequence[bool | None]
    covered: bool

    def __post_init__(self) -> None:
        for name, rows in {"embeddings": self.embeddings, "signals": self.signals}.items():
            if rows is not None and not bool(torch.isfinite(rows).all()):
                raise ValueError(f"the {name} of the window hold values that are not finite")


def with_verdict(window: Window, known: KnownTasks, blank: DriftReport, *, seed: int, permutations: int) -> DriftReport:
    """Fill a report with the tests' results and the verdict.

    Args:
        window: what was measured.
        known: the known tasks.
        blank: the report before any test; its size, level and current tasks count.
        seed: of the permutations.
        permutations: B.
    """
    alpha, n = blank.alpha, blank.n
    enough = n >= MIN_PROMPTS
    apart = known.distances_to(window.embeddings)
    logs = known.log_probabilities(window.embeddings)
    drawn = permutations * enough
    evidence = compare(known, window.embeddings, apart, logs, window.signals, permutations=drawn, seed=seed)
    p_values = {name: it.p_value for name, it in evidence.items() if it.p_value is not None}
    p_prompts = max((p_values[name] for name in known.expected), default=1.0) if enough else 1.0
    labelled = any(right is not None for right in window.correct)
    looks = 2 if labelled and any(known.references[name].correct is not None for name in known.names) else 1
    not_rejected = tuple(name for name, p in p_values.items() if looks * p > alpha)
    moved = enough and looks * p_prompts <= alpha
    nearest = nearest_of(evidence, known.names)
    meant = nearest_of(evidence, (not_rejected or known.names) if moved else known.expected)
    feedback = judge_feedback(window.correct, meant, known.references[meant]) if enough else None
    same_prompts = window.signals is not None and any(
        looks * (evidence[name].p_prompts or 0.0) > alpha for name in known.expected
    )
    shares, p_shares = (
        explain_by_mixture(known, window.embeddings, MIXTURE_DRAWS, seed)
        if moved and window.covered and not not_rejected and not same_prompts and len(known.names) > 1
        else ({}, 0.0)
    )
    answers_changed = feedback is not None and looks * feedback.p_value <= alpha
    kind = kind_of(
        enough=enough,
        covered=window.covered,
        moved=moved,
        explained=bool(not_rejected) or same_prompts or p_shares > alpha,
        answers_changed=answers_changed,
    )
    typicality = np.max([it.typicality(it.remoteness(apart[name])) for name, it in known.references.items()], axis=0)
    return blank.model_copy(
        update={
            "score": evidence[nearest].effect,
            "p_value": min(1.0, looks * min(p_prompts, feedback.p_value if feedback else 1.0)),
            "drifted": moved or answers_changed,
            "nearest_task": nearest if window.covered else None,
            "kind": kind,
            "known": evidence,
            "not_rejected": not_rejected,
            "none_of_these": kind in ("domain_transfer", "not_covered")
            or (kind == "insufficient" and atypical_of_all(typicality.tolist(), alpha)),
            "shares": shares,
            "typicality": tuple(round(value, 4) for value in typicality.tolist()),
            "order_p": order_test(window.embeddings[window.order], min(permutations, ORDERS), seed) if enough else None,
            "feedback": feedback,
            "smallest_p": _smallest_p(known, n, permutations) if enough else None,
        }
    )


def nearest_of(evidence: Mapping[str, TaskEvidence], among: Sequence[str]) -> str:
    """Return the task with the smallest effect size; the distance decides where it is zero for several.

    Args:
        evidence: task → what was measured.
        among: the tasks to choose from, at least one.
    """
    return min(among, key=lambda name: (evidence[name].effect, evidence[name].distance))


def atypical_of_all(typicality: Sequence[float], alpha: float) -> bool:
    """Return whether more prompts are outliers of every known task than chance explains."""
    outliers = sum(value <= alpha for value in typicality)
    return bool(binomtest(outliers, len(typicality), alpha, "greater").pvalue <= alpha)


def kind_of(*, enough: bool, covered: bool, moved: bool, explained: bool, answers_changed: bool) -> DriftKind:
    """Return the kind of drift; what limits a verdict comes before what it says.

    Args:
        enough: whether the window has prompts enough for a verdict.
        covered: whether the encoder was trained on the prompts' script.
        moved: whether every current task is rejected by the prompts.
        explained: whether another known task, or a mixture of known tasks, is not.
        answers_changed: whether the share of right answers differs from the nearest task's.
    """
    if not enough:
        return "insufficient"
    if not covered:
        return "not_covered"
    if moved:
        return "covariate" if explained else "domain_transfer"
    return "concept" if answers_changed else "none"


def _smallest_p(known: KnownTasks, n: int, permutations: int) -> float:
    held = [len(it.halves[1]) if len(known.names) > 1 else len(it.embeddings) for it in known.references.values()]
    return max(smallest_p(n, n + size, permutations) for size in held)
