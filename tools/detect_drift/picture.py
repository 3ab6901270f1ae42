"""What is drawn of a drift report: prompts and known tasks in two dimensions, and each task's null distribution."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cao.drift import DriftPicture, PromptPoint, TaskPicture
from cao.tasks.prompt_text import distinct
from tools.detect_drift.energy import PairwiseDistances, distances
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.permutation import draw_windows
from tools.detect_drift.window import apart, draw

DRAWS = 199
"""Relabellings that a null distribution is drawn from: enough for its shape; the p-value has more."""
BINS = 24
MOST_POINTS = 48
"""Prompts of a known task that are drawn."""
TEXT_KEPT = 160
"""Characters of a prompt that are kept."""


def drift_picture(prompts: Sequence[str], embeddings: Tensor, known: KnownTasks, *, seed: int = 0) -> DriftPicture:
    """Return what is drawn of a window of prompts and the known tasks.

    The plane is that of the two main directions between the means of the tasks and of the window, so that what the
    verdict speaks of is seen if two dimensions can show it. The null distribution of a task is the energy distance of
    windows of this size that are drawn from the task and the window alike.

    Args:
        prompts: N texts; blank ones and repeats are left out, and of more than 512 distinct ones 512 are drawn.
        embeddings: (N, C), float32, unit length, row for row the prompts'.
        known: the known tasks.
        seed: of what is drawn, 0 or above.
    """
    kept = draw(distinct(prompts), seed)
    if not kept:
        return DriftPicture()
    rows = apart(embeddings[kept])
    kept = [kept[row] for row in rows]
    window = embeddings[kept]
    means = torch.stack([window.mean(0), *(it.embeddings.mean(0) for it in known.references.values())]).double()
    middle = means.mean(0)
    plane = _plane(means - middle)

    def placed(points: Tensor) -> list[tuple[float, float]]:
        flat = (points.double() - middle) @ plane.T
        return [(round(x, 4), round(y, 4)) for x, y in flat.tolist()]

    texts = [" ".join(prompts[i].split())[:TEXT_KEPT] for i in kept]
    points = tuple(PromptPoint(at=at, text=text) for at, text in zip(placed(window), texts, strict=True))
    own = distances(window, window)
    tasks = {}
    for name, reference in known.references.items():
        shown = reference.held[: MOST_POINTS if len(reference.held) > MOST_POINTS else None]
        observed, null = _null(own, window, reference, len(known.names) == 1, seed)
        counts, edges = np.histogram(null, bins=BINS)
        tasks[name] = TaskPicture(
            points=tuple(placed(shown)),
            centre=placed(reference.embeddings.mean(0, keepdim=True))[0],
            observed=observed,
            null=tuple(counts.tolist()),
            low=float(edges[0]),
            high=float(edges[-1]),
        )
    return DriftPicture(prompts=points, tasks=tasks)


def _plane(means: Tensor) -> Tensor:
    """Return two orthonormal directions, (2, C), float64, that carry most of what (K, C) centred means differ by."""
    directions = torch.linalg.svd(means, full_matrices=False).Vh[:2]
    if len(directions) < 2:  # vectors of one number
        directions = torch.cat([directions, torch.zeros_like(directions)])
    largest = directions.abs().argmax(1, keepdim=True)
    sign: Tensor = directions.gather(1, largest).sign()  # the library leaves it open
    settled: Tensor = directions * torch.where(sign == 0, 1.0, sign)
    return settled


def _null(own: Tensor, window: Tensor, reference: Reference, alone: bool, seed: int) -> tuple[float, np.ndarray]:
    """Return a window's energy distance from a task, and that of windows which relabelling draws.

    Args:
        own: (n, n), distances within the window.
        window: (n, C).
        reference: of the task.
        alone: whether no other task is known, so that every row of the reference may play the window.
        seed: of the draws.
    """
    pairs = PairwiseDistances(own, distances(window, reference.embeddings), reference.distances)
    held = torch.arange(len(reference.embeddings)) if alone else reference.halves[1]
    drawn = draw_windows(len(window), len(window) + len(held), DRAWS, seed)
    values = pairs.relabelled(held, drawn)
    return float(values[0]), values[1:]
