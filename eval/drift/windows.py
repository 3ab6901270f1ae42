"""What the measurements of the drift table share: windows of prompts, their p-values, and shares with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cao.progress import Progress
from eval.drift.prompts import Pool
from eval.drift.results import Share
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.two_sample import compare
from tools.evaluate.statistics import wilson

SIZES = (8, 16, 32, 64)
LEVELS = (0.05, 0.01)
PERMUTATIONS = 499
ARC = ("arc_easy", "arc_challenge")

PValues = dict[str, float]
"""Test → p-value."""


def made(p: float | None) -> float:
    """Return the p-value of a test that was made."""
    assert p is not None, "a test was not made"
    return p


@dataclass
class Windows:
    """Windows of prompts that no reference holds.

    Attributes:
        references: the known tasks.
        pool: task → prompts that no reference holds.
        count: windows of a cell, about.
        seed: of the pools.
        rng: draws windows.
        progress: called during the work.
    """

    references: Mapping[str, Reference]
    pool: Mapping[str, Pool]
    count: int
    seed: int
    rng: np.random.Generator
    progress: Progress

    def draw(self, task: str, n: int) -> Tensor:
        """Return the embeddings of ``n`` different prompts."""
        rows = self.pool[task].embeddings
        return rows[torch.from_numpy(self.rng.choice(len(rows), n, replace=False))]

    def rows(self, task: str, n: int) -> list[tuple[Pool, int]]:
        """Return ``n`` different prompts by the pool and the row where they lie."""
        pool = self.pool[task]
        return [(pool, int(row)) for row in self.rng.choice(len(pool.prompts), n, replace=False)]

    def p_values(self, known: KnownTasks, task: str, window: Tensor) -> PValues:
        """Return the p-value of each test of the prompts, and of all together."""
        seed = int(self.rng.integers(2**31))
        apart, logs = known.distances_to(window, (task,)), known.log_probabilities(window)
        evidence = compare(known, window, apart, logs, None, permutations=PERMUTATIONS, seed=seed)[task]
        return {
            "energy": made(evidence.p_energy),
            "outliers": made(evidence.p_outliers),
            "mixture": made(evidence.p_mixture),
            "together": made(evidence.p_value),
        }


def share(hits: Sequence[bool]) -> Share:
    """Return a share with its 95 % Wilson interval."""
    return Share(rate=sum(hits) / len(hits), ci95=wilson(sum(hits), len(hits)), windows=len(hits))
