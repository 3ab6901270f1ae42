"""Racing: a candidate that has no prospects any more is dropped before it has answered every reward question.

Acceptance is decided by ``statistics.compare`` on all questions and by nothing else, so of one candidate under one
answer rule racing accepts nothing that full evaluation would refuse. What it may do wrong is drop a candidate that full
evaluation would have accepted. For any two models and any N questions, over the random order in which the questions are
asked, the probability of that is at most ``error``: it is divided evenly over the looks (Bonferroni), and at each look
the hypothesis "all N questions would accept it" is tested at that share.

- Rule ``confident``: acceptance needs a mean paired loss of at most −c·s/√N − price over all N questions, c being the
  larger of the quantile of t at the level of the rule and of what makes a change visible (2.12), s the standard
  deviation. Asked are n of them, a random sample without replacement, so their mean lies above that of all N by more
  than t(n − 1)·s·√(1/n − 1/N) with the tested probability at most. Where few large gains face many small losses
  (negative skewness), t is raised by the first term of its Edgeworth expansion. Assumed is what the rule's own t test
  assumes too: the n differences say what the others are like. They do not where a few questions in a hundred carry the
  whole gain; the lab log has figures.
  The best's losses are those that acceptance will use. The candidate's depend on its temperatures, which all N
  questions will tell: taken is what suits the n best (``statistics.prospects``), so their mean is not above that of the
  losses that acceptance will use. Their spread and skewness are estimates of theirs; what that does is not proven but
  simulated.
- Rule ``either``: acceptance needs that at half the level, or a surely higher accuracy at half of it. A candidate is
  dropped where both are hopeless; what would be accepted by one of them is dropped wrongly only if that one's test is
  wrong, so the error is not divided between them. The accuracy's test is exact: of all N questions at least so many
  more must be gained than lost that the gain is sure, and those gained by now are a random sample of these
  (hypergeometric). No accuracy makes up for a loss that is surely higher, which is tested like the loss; these two
  share the error.
- Rule ``any``: acceptance needs more questions gained than lost. Of all questions that will have changed sides, those
  that did so by now are a random sample: an exact hypergeometric test, no assumption, and no loss in it.
- Written answers have no temperature, so the loss accepts nothing: acceptance needs a surely higher accuracy at the
  whole level, which is tested as above.
- Every rule: what the questions still to come cannot turn around any more is dropped; that is never wrong.

Source: Jennison and Turnbull, Group Sequential Methods, 2000, ch. 10 (stochastic curtailment); Maron and Moore,
Hoeffding races, 1993; Cochran, Sampling Techniques, 1977, §2.6 (finite population); Hall, The Bootstrap and Edgeworth
Expansion, 1992, §2.6 (skewness in Student's t; the finite population in it and the composition are ours).
"""

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cao.types import AcceptRule, Item
from tools.evaluate.statistics import (
    CONFIDENT_LEVEL,
    discordant,
    least_gain,
    level_of_each,
    most_rise,
    prospects,
    surely_more,
)
from tools.evaluate.written import are_written

FIRST_BLOCK = 24
"""Questions before the first look: fewer say little about the spread, and attaching the adapter costs time a block."""

LARGEST_BLOCK = 256
"""Questions of a block at most: what a kill can cost."""


def block_ends(total: int, first: int = FIRST_BLOCK) -> list[int]:
    """Return after how many questions the blocks of an evaluation end, ``total`` last.

    A block has half as many questions as were asked before it, at least ``first`` and at most LARGEST_BLOCK. The last
    one takes what would be less than half a first block.

    Args:
        total: questions, at least 1.
        first: questions of the first block.
    """
    assert total > 0, total
    ends, end = [], first
    while end + first // 2 <= total:
        ends.append(end)
        end += min(max(end // 2, first), LARGEST_BLOCK)
    if not ends or ends[-1] < total:
        ends.append(total)
    return ends


def hopeless(
    best: Sequence[Item],
    candidate: Sequence[Item],
    rule: AcceptRule,
    error: float,
    *,
    level: float = CONFIDENT_LEVEL,
    price: float = 0.0,
) -> str:
    """Say why a candidate is dropped at a look, or return an empty text where it goes on.

    Args:
        best: the best items so far, of all N reward questions.
        candidate: the candidate's items of the n questions asked, the first ones, 2 ≤ n < N.
        rule: the rule of acceptance.
        error: what this look may spend of the error, in (0, 1).
        level: one-sided level, as in ``compare``.
        price: what the candidate must gain on top, as there.
    """
    asked, total = len(candidate), len(best)
    assert 2 <= asked < total, (asked, total)
    assert [item.id for item in best[:asked]] == [item.id for item in candidate], "items of different questions"
    gained, lost = discordant(best, candidate)
    by_accuracy = rule == "any" or are_written(best, candidate)
    least = 1 if by_accuracy else 0
    if gained - lost + (total - asked) < least:
        return f"the accuracy cannot become {'higher' if least else 'as high'} any more"
    if rule == "any":
        unlikely = chance_of_a_lead(gained, lost, total - asked) <= error
        return "the accuracy will hardly become higher" if unlikely else ""
    if by_accuracy:
        unlikely = chance_of_surely_more(gained, lost, asked, total, level, price) <= error
        return "the accuracy will hardly become high enough" if unlikely else ""
    each, diffs = level_of_each(rule, level), prospects(best, candidate)

    def above(least: float, error: float, price: float = 0.0) -> bool:
        bound = loss_bound(float(diffs.std(ddof=1)), skewness_of(diffs), asked, total, error, least)
        return float(diffs.mean()) + price > bound

    if not above(least_gain(total, each), error, price):
        return ""
    if rule == "confident":
        return "the log-loss will hardly be low enough"
    if chance_of_surely_more(gained, lost, asked, total, each, price) <= error / 2:
        return "the log-loss will hardly be low enough, nor the accuracy high enough"
    return "the log-loss will hardly be low enough for any accuracy" if above(most_rise(total), error / 2) else ""


def loss_bound(spread: float, skewness: float, asked: int, total: int, error: float, least: float) -> float:
    """Return how high the mean paired loss of the questions asked may be; above it a candidate is dropped.

    Args:
        spread: standard deviation of the paired differences, nats.
        skewness: of the same; only a negative one counts.
        asked: n, questions asked.
        total: N, all questions.
        error: what this look may spend of the error.
        least: the highest mean over all questions with which it is accepted, over their standard deviation.
    """
    left = 1 / asked - 1 / total
    return spread * (least + quantile(asked - 1, error, skewness, asked, total) * math.sqrt(left))


def quantile(dof: float, error: float, skewness: float, asked: int, total: int) -> float:
    """Return the quantile of t, raised by the first Edgeworth term where few gains face many losses."""
    t, left = float(stats.t.ppf(1 - error, dof)), 1 - asked / total
    if left == 0:  # every question was asked: which ones came first is no matter any more
        return t
    raised = math.sqrt(left) * t * t / 2 - (t * t - 1) * (2 * left - 1) / (6 * math.sqrt(left))
    return t - min(0.0, skewness) * raised / math.sqrt(asked)


def skewness_of(values: NDArray[np.float64]) -> float:
    """Return the skewness of values, 0 without a spread."""
    centred = values - values.mean()
    spread = float(values.std(ddof=1))
    return float((centred**3).mean()) / spread**3 if spread > 0 else 0.0


def chance_of_a_lead(gained: int, lost: int, left: int) -> float:
    """Return the largest probability to see this few gains if in the end more questions are gained than lost.

    Of D questions that change sides, G are gained and G > D − G; the k = gained + lost seen are a random sample of
    them. The fewest gains that lead and the most changes that are possible, D = k + left, are the likeliest to look
    like this; D − 1 too because one of the two is odd. A candidate that leads now is never unlikely to: 1.

    Args:
        gained: questions that only the candidate answers right, so far.
        lost: questions that only the best answers right, so far.
        left: questions not asked yet.
    """
    seen = gained + lost
    if gained > lost:
        return 1.0
    sizes = [size for size in (seen + left, seen + left - 1) if size >= max(seen, 1)]
    return max(float(stats.hypergeom.cdf(gained, size, size // 2 + 1, seen)) for size in sizes)


def chance_of_surely_more(gained: int, lost: int, asked: int, total: int, level: float, price: float = 0.0) -> float:
    """Return the largest probability to see this few gains if in the end the candidate is surely more accurate.

    Of all N questions G are gained and L lost; the n asked are a random sample, so those gained by now follow the
    hypergeometric distribution of (N, G, n). L is at least what is lost by now, and the more are lost the more must be
    gained, so the fewest gains that suffice beside these losses are the likeliest to look like this. Where not even
    gains alone from here on suffice: 0.

    Args:
        gained: questions that only the candidate answers right, so far.
        lost: questions that only the best answers right, so far.
        asked: n, questions asked.
        total: N, all questions.
        level: one-sided level of ``surely_more``.
        price: share of the questions that must be gained on top.
    """
    possible = range(gained, gained + total - asked + 1)
    at = bisect_left(possible, True, key=lambda gains: surely_more(gains, lost, total, level, price))
    return float(stats.hypergeom.cdf(gained, total, possible[at], asked)) if at < len(possible) else 0.0
