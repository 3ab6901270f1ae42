"""The paper's own figures, in per cent. They stand beside ours and are never merged with them.

The paper parses free text; some of its base models' figures are below chance for that reason. Three of its tasks
cannot be had here (DivLogicEval, CodeMMLU, JAMA); what stands in for them has no figure.

Source: CAO-LLM Table 2.
"""

from typing import Literal

from tools.detect_drift.reference import IN_DOMAIN

Size = Literal["0.5B", "1.5B"]
SIZES: tuple[Size, ...] = ("0.5B", "1.5B")
"""Qwen2.5-Instruct of these sizes."""

_TASKS = ("arc_challenge", "arc_easy", "hellaswag", "boolq", "piqa", "winogrande", "gsm8k", "math", "social_iqa")

_TABLE: dict[Size, dict[str, tuple[float | None, ...]]] = {
    "0.5B": {
        "base": (38.3, 54.8, 26.5, 37.0, 16.6, 50.2, 15.2, 2.8, 50.8),
        "no_meta_train": (40.7, 59.4, 23.4, 22.1, 66.2, 35.7, None, None, None),
        "union_train": (39.7, 47.4, 26.3, 14.7, 51.1, 50.5, 15.6, 6.8, 39.5),
        "serl": (22.5, 24.0, 25.1, 44.7, 96.7, 49.6, 23.9, 24.5, 32.9),
        "abmll": (37.6, 54.4, 26.5, 62.2, 37.6, 34.5, 20.4, 7.1, 53.1),
        "maml": (47.7, 63.7, 36.3, 46.2, 67.7, 50.1, 29.1, 26.3, 54.9),
        "cao_stage_1": (42.7, 63.2, 25.9, 44.9, 47.6, 50.0, 20.8, 24.1, 33.5),
    },
    "1.5B": {
        "base": (71.5, 83.0, 50.9, 56.3, 45.8, 50.6, 51.8, 30.3, 65.9),
        "no_meta_train": (74.5, 84.4, 55.8, 55.6, 65.6, 48.2, None, None, None),
        "union_train": (63.2, 73.9, 48.9, 55.1, 47.8, 61.3, 34.2, 32.2, 51.4),
        "abmll": (69.9, 83.2, 51.1, 63.2, 54.3, 52.9, 28.7, 15.9, 66.3),
        "maml": (66.0, 84.3, 59.3, 58.7, 68.1, 56.8, 35.6, 43.5, 68.7),
        "cao_stage_1": (73.0, 83.7, 56.2, 55.2, 56.4, 50.2, 32.6, 40.1, 68.6),
    },
}

_AVERAGES: dict[Size, dict[str, tuple[float, float | None]]] = {
    "0.5B": {
        "base": (37.2, 24.5),
        "no_meta_train": (41.2, None),
        "union_train": (38.3, 29.9),
        "serl": (43.7, 24.6),
        "abmll": (42.1, 24.9),
        "maml": (51.9, 32.6),
        "cao_stage_1": (45.7, 25.7),
    },
    "1.5B": {
        "base": (59.6, 42.9),
        "no_meta_train": (64.0, None),
        "union_train": (58.3, 36.1),
        "abmll": (62.4, 34.3),
        "maml": (65.5, 42.3),
        "cao_stage_1": (62.5, 42.2),
    },
}
"""Method → its mean over the paper's six in-domain tasks, and over its six others."""


def figure(size: Size, method: str, task: str) -> float | None:
    """Return the paper's accuracy of a method on a task, per cent; None where it has none."""
    row = _TABLE[size].get(method)
    return row[_TASKS.index(task)] if row and task in _TASKS else None


def average(size: Size, method: str, *, in_domain: bool) -> float | None:
    """Return the paper's mean of a method, per cent, over its own six tasks of a kind; None where it has none."""
    pair = _AVERAGES[size].get(method)
    return pair[0 if in_domain else 1] if pair else None


assert set(IN_DOMAIN) <= set(_TASKS)
