"""Drift on a stream: conformal p-values against a bag of usual scores, bets against them, and one statistic.

While the stream stays exchangeable with the bag, each smoothed conformal p-value is uniform and independent of the
earlier ones, because every prompt joins the bag after its turn. A bet e = κp^(κ−1) on small p-values then has mean 1,
and the Shiryaev–Roberts recursion R ← (R + 1)·e minus the number of prompts is a martingale, for each κ and so for
the mean over them: the mean number of prompts until it reaches A without drift is A at least. Each κ has a recursion
of its own because one bet must win all along to grow: a mean of bets at every prompt pays for the wrong ones too. The
bag stops growing at a cap, so that slow drift cannot dilute it.

Where several tasks are current, each has a bag of its own and the largest of a prompt's p-values counts. It is at least
that of the task the prompt came from, so however a stream mixes the tasks, no bet is larger than the valid one.

Source: Vovk et al., Testing randomness online, 2021; Shin, Ramdas and Rinaldo, E-detectors, 2024.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from tools.detect_drift.known_tasks import KnownTasks
from tools.detect_drift.permutation import Array

POWERS = (0.1, 0.25, 0.5, 0.75)
"""κ of the bets: small ones win on rare and very odd prompts, large ones on many slightly odd prompts."""

BAG = 4096
"""Scores kept at most; beyond it the bag is frozen."""

_TIE = 1e-6


class Strangeness:
    """How little a prompt looks like the current tasks: a fixed score, learnt from the references' first halves.

    For each current task the mean of two standardised scores counts: the remoteness from the task's neighbours, which
    notices anything new, and the classifier's odds against the task, which notice other known tasks.

    Args:
        known: the known tasks.
    """

    def __init__(self, known: KnownTasks) -> None:
        self.known = known
        self._scales: dict[str, tuple[Array, Array]] = {}
        for name in known.expected:
            learnt = known.references[name].learnt
            rows = self._raw(name, learnt, known.log_probabilities(learnt))
            self._scales[name] = (np.median(rows, axis=0), np.maximum(rows.std(0), 1e-6))

    def __call__(self, embeddings: Tensor) -> Array:
        """Return the scores of (n, C) embeddings for each of the K current tasks, (n, K)."""
        logs = self.known.log_probabilities(embeddings)
        return np.stack([self._scaled(name, embeddings, logs) for name in self._scales], axis=1)

    def usual(self) -> list[list[float]]:
        """Return, for each current task, the scores of its rows that nothing was learnt from: a stream's first bags."""
        held = {name: self.known.references[name].held for name in self._scales}
        return [self._scaled(name, it, self.known.log_probabilities(it)).tolist() for name, it in held.items()]

    def _scaled(self, name: str, embeddings: Tensor, logs: Array) -> Array:
        middle, scale = self._scales[name]
        result: Array = ((self._raw(name, embeddings, logs) - middle) / scale).mean(1)
        return result

    def _raw(self, name: str, embeddings: Tensor, logs: Array) -> Array:
        alone = len(self.known.names) == 1
        odds = np.zeros(len(embeddings)) if alone else self.known.odds_against(name, logs)
        (apart,) = self.known.distances_to(embeddings, (name,)).values()
        return np.stack([self.known.references[name].remoteness(apart), odds], axis=1)


class DetectorState(TypedDict):
    """What a ``StreamDetector`` goes on from, in its fields' names."""

    bags: list[list[float]]
    threshold: int | float
    seed: int
    seen: int
    sums: list[float]
    gains: list[float]
    starts: list[int]
    cap: int


@dataclass
class StreamDetector:
    """The running test of a stream.

    Attributes:
        bags: for each of K current tasks the sorted scores of usual prompts; a prompt joins the one it suits best.
        threshold: A, the mean number of prompts without drift until an alarm, at least.
        seed: of the smoothing.
        seen: prompts judged since the detector was made.
        sums: R of each bet.
        gains: product of each bet's e-values since its start.
        starts: the prompt from which on each bet has won most, counted like ``seen``.
        cap: the largest size of all bags together.
    """

    bags: list[list[float]]
    threshold: float = 1000.0
    seed: int = 0
    seen: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(POWERS))
    gains: list[float] = field(default_factory=lambda: [0.0] * len(POWERS))
    starts: list[int] = field(default_factory=lambda: [0] * len(POWERS))
    cap: int = BAG

    def __post_init__(self) -> None:
        assert self.bags, "a detector needs bags of usual scores"
        assert all(self.bags), "a detector needs bags of usual scores"
        self.bags = [sorted(bag) for bag in self.bags]

    @property
    def statistic(self) -> float:
        """The mean of R over the bets."""
        return sum(self.sums) / len(self.sums)

    @property
    def since(self) -> int:
        """The prompt with which the change began most likely: from it on the most successful bet has won most."""
        return max(zip(self.gains, self.starts, strict=True))[1]

    def update(self, scores: Sequence[float]) -> bool:
        """Judge one prompt by its scores and return whether this is an alarm.

        Args:
            scores: K, one for each current task, finite; large is strange.
        """
        p_values = self.p_values(scores)
        best = p_values.index(max(p_values))
        for k, won in enumerate(bets(p_values[best])):
            if self.gains[k] < 1.0:
                self.gains[k], self.starts[k] = 1.0, self.seen
            self.sums[k] = (self.sums[k] + 1.0) * won
            self.gains[k] *= won
        self.seen += 1
        if len(self.bags[best]) < self.cap // len(self.bags):
            insort(self.bags[best], scores[best])
        return self.statistic >= self.threshold

    def p_values(self, scores: Sequence[float]) -> list[float]:
        """Return each task's smoothed conformal p-value: ties, the prompt's own too, count by a random share."""
        assert len(scores) == len(self.bags), (len(scores), len(self.bags))
        share = 1.0 - float(np.random.default_rng((self.seed, self.seen)).random())
        p_values = []
        for bag, score in zip(self.bags, scores, strict=True):
            above = len(bag) - bisect_right(bag, score + _TIE)
            equal = bisect_right(bag, score + _TIE) - bisect_left(bag, score - _TIE) + 1
            p_values.append((above + share * equal) / (len(bag) + 1))
        return p_values

    def state(self) -> DetectorState:
        """Return what the detector knows as plain values; ``StreamDetector(**state)`` goes on from there."""
        return DetectorState(
            bags=[list(bag) for bag in self.bags],
            threshold=self.threshold,
            seed=self.seed,
            seen=self.seen,
            sums=list(self.sums),
            gains=list(self.gains),
            starts=list(self.starts),
            cap=self.cap,
        )


def bets(p: float) -> list[float]:
    """Return the e-value κp^(κ−1) of a p-value in (0, 1] for each κ; each integrates to 1."""
    assert 0.0 < p <= 1.0, p
    return [power * float(p ** (power - 1.0)) for power in POWERS]


def alarms(scores: Array, bags: list[list[float]], threshold: float, seed: int) -> int | None:
    """Return after how many of the prompts with (n, K) scores the first alarm comes, None if none does."""
    detector = StreamDetector(bags, threshold, seed)
    return next((i for i, score in enumerate(scores.tolist(), 1) if detector.update(score)), None)
