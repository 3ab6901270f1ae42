"""Paired bootstrap over tasks, questions and seeds: what chance there is in a difference between two sets of answers.

One draw takes questions with replacement, and seeds with replacement where a side has several; both sides of a
difference are read from the same draw, so what makes a question hard for both cancels. Of a mean over tasks, a draw
takes tasks with replacement, too.

Axis letters: T tasks, S seeds, n questions, R draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cao.types import AnswerRule, Item
from tools.evaluate.statistics import summarise
from tools.evaluate.temperature import losses

Array = NDArray[np.float64]

LEVEL = 0.95
REPETITIONS = 5000


@dataclass(frozen=True)
class Graded:
    """What one kind of adapter answers on one task under an answer rule.

    Attributes:
        correct: (S, n) 1 where the answer is right, else 0.
        loss: (S, n) choice log-loss at the adapter's own temperature, nats.
    """

    correct: Array = field(repr=False)
    loss: Array = field(repr=False)

    @classmethod
    def of(cls, seeds: Sequence[Sequence[Item]]) -> "Graded":
        """Return the answers of S adapters to the same questions, as these items grade them."""
        correct = [[float(item.correct) for item in items] for items in seeds]
        return cls(np.array(correct), np.stack([losses(items) for items in seeds]))

    @property
    def accuracy(self) -> float:
        """Share of right answers, mean over seeds."""
        return float(self.correct.mean())

    @property
    def log_loss(self) -> float:
        """Choice log-loss, nats, mean over seeds and questions."""
        return float(self.loss.mean())


@dataclass(frozen=True)
class Answers:
    """What one kind of adapter answers on one task.

    Attributes:
        nll: (S, n) negative log-likelihood of the gold answer, nats; the same under every answer rule.
        best: under each adapter's own best answer rule.
        default: under the default rule.
        chars: (n,) characters of the gold answer.
        rules: S answer rules, each adapter's best one.
        at_chance: of the S adapters, how many are no better than guessing by their best rule.
    """

    nll: Array = field(repr=False)
    best: Graded = field(repr=False)
    default: Graded = field(repr=False)
    chars: Array = field(repr=False)
    rules: tuple[AnswerRule, ...] = (AnswerRule(),)
    at_chance: int = 0

    @classmethod
    def of(
        cls,
        default: Sequence[Sequence[Item]],
        best: Sequence[Sequence[Item]] | None = None,
        rules: Sequence[AnswerRule] = (),
    ) -> "Answers":
        """Return the answers of S adapters to the same questions.

        Args:
            default: the items of each under the default rule, with the same ids in the same order.
            best: the same under its own best rule; None where that is the default.
            rules: S best rules.
        """
        judged = default if best is None else best
        assert judged, "no answers"
        ids = [item.id for item in judged[0]]
        assert all([item.id for item in items] == ids for items in (*default, *judged)), "other questions"
        nll = np.array([[item.gold_nll for item in items] for items in judged], dtype=np.float64)
        chars = np.array([item.gold_chars for item in judged[0]], dtype=np.float64)
        guessing = sum(summarise(items).at_chance for items in judged)
        every = tuple(rules) or (AnswerRule(),) * len(judged)
        return cls(nll, Graded.of(judged), Graded.of(default), chars, every, guessing)

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

    def means(self, table: Array) -> Array:
        """Return (R,) the mean over questions and seeds of each draw.

        Args:
            table: (S, n) or (1, n) a value of each answer.
        """
        drawn: Array = (self._means(table) * self.questions).sum(1) / table.shape[1]
        return drawn


def over_tasks(drawn: Sequence[Array]) -> Array:
    """Return (R,) the mean over tasks of each draw, which takes tasks with replacement, too.

    Args:
        drawn: T tasks' values, (R,) each; the same tasks are drawn for every kind of value, so that pairs stay pairs.
    """
    values, count = np.stack(drawn, axis=1), len(drawn)
    picked = np.random.default_rng(0).multinomial(count, [1 / count] * count, len(values))
    means: Array = (picked * values).sum(1) / count
    return means


def interval(values: Array, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of bootstrap values.

    Args:
        values: (R,).
        level: two-sided coverage.
    """
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def two_sided(drawn: Array) -> float:
    """Return the two-sided p-value of a bootstrap: twice the smaller share on one side of zero, at least 2/(R + 1).

    Args:
        drawn: (R,) differences.
    """
    smaller = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(drawn) + 1))


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
