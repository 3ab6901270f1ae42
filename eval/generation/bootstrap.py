"""Paired bootstrap over questions and seeds: what chance there is in a difference between two sets of answers.

One draw takes questions with replacement, and seeds with replacement where a side has several; both sides of a
difference are read from the same draw, so what makes a question hard for both cancels.

Axis letters: S seeds, n questions, R draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cao.types import Item

Array = NDArray[np.float64]

LEVEL = 0.95
REPETITIONS = 5000


@dataclass(frozen=True)
class Answers:
    """What one kind of adapter answers on one task.

    Attributes:
        nll: (S, n) negative log-likelihood of the gold answer, nats.
        correct: (S, n) 1 where the answer is right, else 0.
        loss: (S, n) choice log-loss, nats.
        chars: (n,) characters of the gold answer.
    """

    nll: Array = field(repr=False)
    correct: Array = field(repr=False)
    loss: Array = field(repr=False)
    chars: Array = field(repr=False)

    @classmethod
    def of(cls, seeds: Sequence[Sequence[Item]]) -> "Answers":
        """Return the answers of S adapters to the same questions.

        Args:
            seeds: the items of each, with the same ids in the same order.
        """
        assert seeds, "no answers"
        assert all([item.id for item in items] == [item.id for item in seeds[0]] for items in seeds), "other questions"

        def table(value: Callable[[Item], float]) -> Array:
            return np.array([[value(item) for item in items] for items in seeds], dtype=np.float64)

        chars = np.array([item.gold_chars for item in seeds[0]], dtype=np.float64)
        nll, loss = table(lambda item: item.gold_nll), table(lambda item: item.loss)
        return cls(nll, table(lambda item: item.correct), loss, chars)

    @property
    def n(self) -> int:
        """Number of questions."""
        return len(self.chars)

    @property
    def seeds(self) -> int:
        """S."""
        return len(self.nll)

    @property
    def nll_per_char(self) -> float:
        """Gold negative log-likelihood per character, nats, mean over seeds."""
        return float(self.nll.mean(0).sum() / self.chars.sum())

    @property
    def accuracy(self) -> float:
        """Share of right answers, mean over seeds."""
        return float(self.correct.mean())

    @property
    def log_loss(self) -> float:
        """Choice log-loss, nats, mean over seeds and questions."""
        return float(self.loss.mean())


@dataclass(frozen=True)
class Draws:
    """How often each question and each seed is in each of R draws.

    Attributes:
        questions: (R, n) counts; a row sums to n.
        seeds: (R, S) counts; a row sums to S.
    """

    questions: Array = field(repr=False)
    seeds: Array = field(repr=False)

    @classmethod
    def make(cls, n: int, seeds: int, rng: np.random.Generator, repetitions: int = REPETITIONS) -> "Draws":
        """Draw with replacement.

        Args:
            n: questions.
            seeds: S.
            rng: source of chance.
            repetitions: R.
        """
        assert min(n, seeds, repetitions) > 0, (n, seeds, repetitions)
        counts = [rng.multinomial(size, [1 / size] * size, repetitions) for size in (n, seeds)]
        return cls(counts[0].astype(np.float64), counts[1].astype(np.float64))

    def _means(self, table: Array) -> Array:
        """Return (R, n): each draw's mean over its seeds; a side without seeds is the same in every draw."""
        if len(table) == 1:
            return np.broadcast_to(table, self.questions.shape)
        assert len(table) == self.seeds.shape[1], (len(table), self.seeds.shape)
        means: Array = self.seeds @ table / len(table)
        return means

    def nll_per_char(self, answers: Answers) -> Array:
        """Return (R,) the gold likelihood of each draw."""
        drawn: Array = (self._means(answers.nll) * self.questions).sum(1) / (self.questions @ answers.chars)
        return drawn

    def accuracy(self, answers: Answers) -> Array:
        """Return (R,) the accuracy of each draw."""
        drawn: Array = (self._means(answers.correct) * self.questions).sum(1) / answers.n
        return drawn


def interval(values: Array, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of bootstrap values.

    Args:
        values: (R,).
        level: two-sided coverage.
    """
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def recovery(base: float, generated: float, checkpoint: float) -> float | None:
    """Return the recovery ratio (base − generated) / (base − checkpoint), None where the checkpoint gains nothing.

    Source: CAO-LLM §2.2; the measure is this project's.
    """
    return (base - generated) / (base - checkpoint) if base > checkpoint else None


def recovered(draws: Draws, base: Answers, generated: Answers, checkpoint: Answers) -> Array:
    """Return the recovery ratios of the draws in which the checkpoint gains; at most (R,)."""
    before, made, best = (draws.nll_per_char(answers) for answers in (base, generated, checkpoint))
    gains = before > best
    ratios: Array = (before[gains] - made[gains]) / (before[gains] - best[gains])
    return ratios
