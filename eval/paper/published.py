"""The paper's own figures, in per cent. They stand beside ours and are never merged with them.

The paper parses free text; some of its base models' figures are below chance for that reason. Where a task of the paper
is not at hand, what stands in for it has a name of its own and no figure.

Source: CAO-LLM Tables 2, 5 and 6.
"""

from typing import Literal

from tools.detect_drift.reference import IN_DOMAIN

Size = Literal["0.5B", "1.5B"]
SIZES: tuple[Size, ...] = ("0.5B", "1.5B")
"""Qwen2.5-Instruct of these sizes."""

OUT_OF_DOMAIN = ("gsm8k", "math", "divlogiceval", "social_iqa", "codemmlu", "jama")
PAPERS_TASKS = ("arc_challenge", "arc_easy", "hellaswag", "boolq", "piqa", "winogrande", *OUT_OF_DOMAIN)
"""The paper's order."""

STAND_INS = {"mmlu_logic": "divlogiceval", "mmlu_cs": "codemmlu", "medqa": "jama"}
"""What is measured where a task of the paper is not at hand → that task."""

NONE = (None,) * len(OUT_OF_DOMAIN)

_TABLE_2: dict[Size, dict[str, tuple[float | None, ...]]] = {
    "0.5B": {
        "base": (38.3, 54.8, 26.5, 37.0, 16.6, 50.2, 15.2, 2.8, 22.4, 50.8, 32.4, 23.8),
        "no_meta_train": (40.7, 59.4, 23.4, 22.1, 66.2, 35.7, *NONE),
        "union_train": (39.7, 47.4, 26.3, 14.7, 51.1, 50.5, 15.6, 6.8, 20.3, 39.5, 29.8, 29.9),
        "serl": (22.5, 24.0, 25.1, 44.7, 96.7, 49.6, 23.9, 24.5, 27.4, 32.9, 26.3, 12.4),
        "abmll": (37.6, 54.4, 26.5, 62.2, 37.6, 34.5, 20.4, 7.1, 23.7, 53.1, 28.2, 16.8),
        "maml": (47.7, 63.7, 36.3, 46.2, 67.7, 50.1, 29.1, 26.3, 25.1, 54.9, 34.1, 26.4),
        "cao_all": (55.5, 74.7, 48.3, 58.7, 60.1, 52.8, 30.3, 24.7, 28.7, 55.1, 35.6, 31.2),
        "cao_stage_1": (42.7, 63.2, 25.9, 44.9, 47.6, 50.0, 20.8, 24.1, 21.0, 33.5, 29.1, 11.7),
    },
    "1.5B": {
        "base": (71.5, 83.0, 50.9, 56.3, 45.8, 50.6, 51.8, 30.3, 28.3, 65.9, 42.6, 38.9),
        "no_meta_train": (74.5, 84.4, 55.8, 55.6, 65.6, 48.2, *NONE),
        "union_train": (63.2, 73.9, 48.9, 55.1, 47.8, 61.3, 34.2, 32.2, 24.1, 51.4, 34.7, 34.7),
        "abmll": (69.9, 83.2, 51.1, 63.2, 54.3, 52.9, 28.7, 15.9, 26.9, 66.3, 39.6, 28.5),
        "maml": (66.0, 84.3, 59.3, 58.7, 68.1, 56.8, 35.6, 43.5, 31.2, 68.7, 42.3, 32.5),
        "cao_all": (73.7, 88.4, 57.2, 58.8, 70.7, 57.3, 51.4, 46.9, 31.4, 69.5, 44.6, 41.5),
        "cao_stage_1": (73.0, 83.7, 56.2, 55.2, 56.4, 50.2, 32.6, 40.1, 28.6, 68.6, 44.1, 39.5),
    },
}

_TABLE_5: dict[str, tuple[float | None, ...]] = {
    "family_TTL": (45.8, 65.9, 32.1, 48.6, 60.1, None, 24.1, None, 26.3, 32.9, None, 31.2),
    "family_TTS": (49.1, 68.9, 48.3, 46.4, 46.7, None, 24.3, 24.5, 22.9, 55.1, None, 13.4),
    "family_LORA": (44.1, 61.8, 31.9, 58.7, 18.9, None, 30.3, 24.5, 26.6, 31.5, None, 14.3),
    "family_Latent": (55.5, 74.7, 28.7, None, 51.9, None, 23.9, 24.2, 28.7, 32.5, None, 21.8),
}
"""Row → what the family alone reaches at 0.5B; None where the paper has no figure, or says that the family fails."""

_AVERAGES: dict[Size, dict[str, tuple[float, float | None]]] = {
    "0.5B": {
        "base": (37.2, 24.5),
        "no_meta_train": (41.2, None),
        "union_train": (38.3, 29.9),
        "serl": (43.7, 24.6),
        "abmll": (42.1, 24.9),
        "maml": (51.9, 32.6),
        "cao_all": (58.4, 34.2),
        "cao_stage_1": (45.7, 25.7),
    },
    "1.5B": {
        "base": (59.6, 42.9),
        "no_meta_train": (64.0, None),
        "union_train": (58.3, 36.1),
        "abmll": (62.4, 34.3),
        "maml": (65.5, 42.3),
        "cao_all": (67.7, 47.5),
        "cao_stage_1": (62.5, 42.2),
    },
}
"""Row → its mean over the paper's six in-domain tasks, and over its six others, as the paper states them."""


def figure(size: Size, row: str, task: str) -> float | None:
    """Return the paper's accuracy of a row on a task, per cent; None where it has none."""
    figures = (_TABLE_2[size] | (_TABLE_5 if size == "0.5B" else {})).get(row)
    return figures[PAPERS_TASKS.index(task)] if figures and task in PAPERS_TASKS else None


def average(size: Size, row: str, *, in_domain: bool) -> float | None:
    """Return the paper's mean of a row, per cent, over its own six tasks of a kind; None where it has none."""
    pair = _AVERAGES[size].get(row)
    return pair[0 if in_domain else 1] if pair else None


assert set(PAPERS_TASKS) == {*IN_DOMAIN, *OUT_OF_DOMAIN}
