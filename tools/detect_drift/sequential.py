"""Drift on a stream: conformal p-values against a bag of usual scores, betting against them, and one statistic.

While the stream stays exchangeable with the bag, each smoothed conformal p-value is uniform and independent of the
earlier ones, because every prompt joins the bag after its turn. A bet ∫κp^(κ−1) on small p-values then has mean 1, and
the Shiryaev–Roberts statistic R ← (R + 1)·e minus the number of prompts is a martingale: the mean number of prompts
until R reaches A without drift is A at least. The bag stops growing at a cap, so that slow drift cannot dilute it.

Source: Vovk et al., Testing randomness online, 2021; Shin, Ramdas and Rinaldo, E-detectors, 2024.
"""

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.detect_drift.known_tasks import KnownTasks
from tools.detect_drift.permutation import Array

POWERS = (0.1, 0.25, 0.5, 0.75)
"""κ of the bets: small ones win on rare and very odd prompts, large ones on many slightly odd prompts."""

BAG = 4096
"""Scores kept at most; beyond it the bag is frozen."""

_TIE = 1e-6


class Strangeness:
    """How little a prompt looks like the current tasks: a fixed score, learnt from the references' first halves.

    For each current task the larger of two standardised scores counts: the remoteness from the task's neighbours,
    which notices anything new, and the classifier's odds against the task, which notice other known tasks. A prompt
    is as strange as it is for the task that it suits best.

    Args:
        known: the known tasks.
    """

    def __init__(self, known: KnownTasks) -> None:
        self.known = known
        self._scales: dict[str, tuple[Array, Array]] = {}
        for name in known.expected:
            rows = self._raw(name, known.references[name].learnt)
            self._scales[name] = (np.median(rows, axis=0), np.maximum(rows.std(0), 1e-6))

    def __call__(self, embeddings: Tensor) -> Array:
        """Return the scores, (n,), of (n, C) embeddings."""
        each = [
            ((self._raw(name, embeddings) - middle) / scale).max(1) for name, (middle, scale) in self._scales.items()
        ]
        result: Array = np.min(each, axis=0)
        return result

    def usual(self) -> Array:
        """Return the scores of the rows that nothing was learnt from: the bag that a stream starts with."""
        return self(torch.cat([self.known.references[name].held for name in self.known.expected]))

    def _raw(self, name: str, embeddings: Tensor) -> Array:
        odds = self.known.odds_against(name, self.known.log_probabilities(embeddings))
        if len(self.known.names) == 1:
            odds = np.zeros(len(embeddings))
        return np.stack([self.known.references[name].remoteness(embeddings), odds], axis=1)


@dataclass
class StreamDetector:
    """The running test of a stream.

    Attributes:
        bag: sorted scores of usual prompts.
        threshold: A, the mean number of prompts without drift until an alarm, at least.
        seed: of the smoothing.
        statistic: R.
        seen: prompts judged since the detector was made.
        since: the prompt with which the present rise of R began, counted like ``seen``.
        cap: the bag's largest size.
    """

    bag: list[float]
    threshold: float = 1000.0
    seed: int = 0
    statistic: float = 0.0
    seen: int = 0
    since: int = 0
    cap: int = field(default=BAG)

    def __post_init__(self) -> None:
        assert self.bag, "a detector needs a bag of usual scores"
        self.bag = sorted(self.bag)

    def update(self, score: float) -> bool:
        """Judge one prompt by its score and return whether this is an alarm.

        Args:
            score: finite; large is strange.
        """
        p = self.p_value(score)
        if self.statistic < 1.0:
            self.since = self.seen
        self.statistic = (self.statistic + 1.0) * bet(p)
        self.seen += 1
        if len(self.bag) < self.cap:
            insort(self.bag, score)
        return self.statistic >= self.threshold

    def p_value(self, score: float) -> float:
        """Return the smoothed conformal p-value: ties, the prompt itself among them, count by a random share."""
        above = len(self.bag) - bisect_right(self.bag, score + _TIE)
        equal = bisect_right(self.bag, score + _TIE) - bisect_left(self.bag, score - _TIE) + 1
        share = np.random.default_rng((self.seed, self.seen)).random()
        return float((above + (1.0 - share) * equal) / (len(self.bag) + 1))

    def state(self) -> dict[str, Any]:
        """Return what the detector knows as plain values; ``StreamDetector(**state)`` goes on from there."""
        return {**vars(self), "bag": list(self.bag)}


def bet(p: float) -> float:
    """Return the e-value of a p-value in (0, 1]: the mean over κ of κp^(κ−1), which integrates to 1."""
    assert 0.0 < p <= 1.0, p
    return sum(power * float(p ** (power - 1.0)) for power in POWERS) / len(POWERS)


def alarms(scores: NDArray[np.float64], bag: Array, threshold: float, seed: int) -> int | None:
    """Return after how many of the scores the first alarm comes, None if none does."""
    detector = StreamDetector(bag.tolist(), threshold, seed)
    return next((i for i, score in enumerate(scores.tolist(), 1) if detector.update(score)), None)
