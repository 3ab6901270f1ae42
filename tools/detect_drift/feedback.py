"""Concept drift: only labels can show it, for the prompts of a changed task may be the very same."""

from collections.abc import Sequence

from scipy.stats import fisher_exact

from cao.drift import Feedback
from tools.detect_drift.known_tasks import Reference


def judge_feedback(correct: Sequence[bool | None], task: str, reference: Reference) -> Feedback | None:
    """Compare the share of right answers with that of the nearest task's reference.

    Args:
        correct: for each prompt whether the deployed model's answer was right, None where nobody knows.
        task: the nearest known task.
        reference: its sample.

    Returns:
        None where either side has no labels.
    """
    known = [bool(right) for right in correct if right is not None]
    if not known or reference.correct is None or not len(reference.correct):
        return None
    right, total = int(reference.correct.sum()), len(reference.correct)
    table = [[sum(known), len(known) - sum(known)], [right, total - right]]
    return Feedback(
        task=task,
        correct=sum(known),
        answered=len(known),
        reference_accuracy=right / total,
        p_value=float(fisher_exact(table).pvalue),
    )
