"""What a set of answers says, and what two sets on the same questions say about each other."""

import math
import statistics
import sys
from collections.abc import Sequence

from scipy import stats

from cao.types import AcceptRule, Comparison, Item, Reward

CONFIDENT_LEVEL = 0.1
"""One-sided level at which the loss must have fallen for the rule ``confident``."""


def wilson(correct: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a proportion.

    Args:
        correct: successes, 0 to n.
        n: trials, at least 1.
        level: two-sided coverage.
    """
    assert n > 0, n
    assert 0 <= correct <= n, (correct, n)
    interval = stats.binomtest(correct, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_exact(b: int, c: int) -> float:
    """Return the exact two-sided p-value of McNemar's test.

    Args:
        b: pairs that only the first got right.
        c: pairs that only the second got right.
    """
    return float(stats.binomtest(b, b + c).pvalue) if b + c else 1.0


def paired_one_sided(diffs: Sequence[float]) -> float:
    """Return the p-value of the paired t test against H1: the mean difference is below zero.

    Mean and spread are the exact ones of the standard library: scipy's test cancels where differences are nearly equal.
    Fewer than two differences say nothing (1). Without any spread the test's limit is returned: 1 for a mean
    of zero or above, the smallest positive number for one below.

    Args:
        diffs: candidate minus best, one for each question.
    """
    n = len(diffs)
    if n < 2:
        return 1.0
    mean, spread = statistics.fmean(diffs), statistics.stdev(diffs)
    if spread == 0:
        return sys.float_info.min if mean < 0 else 1.0
    return float(stats.t.cdf(mean / (spread / math.sqrt(n)), n - 1))


def smallest_detectable(sd_of_diffs: float, n: int, level: float = 0.1, power: float = 0.8) -> float:
    """Return the smallest mean paired difference that a one-sided test of this size would find.

    Normal approximation: (z of level + z of power) · sd / √n.

    Args:
        sd_of_diffs: standard deviation of the paired differences.
        n: pairs.
        level: one-sided level of the test.
        power: probability to find it.
    """
    return float(stats.norm.ppf(1 - level) + stats.norm.ppf(power)) * sd_of_diffs / math.sqrt(n)


def summarise(items: Sequence[Item]) -> Reward:
    """Return accuracy, interval, mean margin, mean loss and gold likelihood of at least one item."""
    assert items, "nothing to summarise"
    correct = sum(item.correct for item in items)
    return Reward(
        score=correct / len(items),
        ci95=wilson(correct, len(items)),
        margin=statistics.fmean(item.margin for item in items),
        loss=statistics.fmean(item.loss for item in items),
        gold_nll_per_char=math.fsum(item.gold_nll for item in items) / sum(item.gold_chars for item in items),
        n=len(items),
    )


def compare(best: Sequence[Item], candidate: Sequence[Item], rule: AcceptRule) -> Comparison:
    """Judge a candidate against the best so far on the same questions.

    Args:
        best: the best items so far.
        candidate: the candidate's items, the same ids in the same order.
        rule: ``confident`` accepts when accuracy is not lower and the mean paired loss has fallen at a
            one-sided level of .1; ``any`` when accuracy is higher, which is the paper's binary reward.

    Source: CAO-LLM §2.4 (binary reward); the rule ``confident`` is this project's.
    """
    assert best, "nothing to compare"
    assert [item.id for item in best] == [item.id for item in candidate], "items of different questions"
    gained = sum(new.correct and not old.correct for old, new in zip(best, candidate, strict=True))
    lost = sum(old.correct and not new.correct for old, new in zip(best, candidate, strict=True))
    diffs = [new.loss - old.loss for old, new in zip(best, candidate, strict=True)]
    change, p_value = statistics.fmean(diffs), paired_one_sided(diffs)
    confident = gained >= lost and change < 0 and p_value <= CONFIDENT_LEVEL
    return Comparison(
        accuracy_change=(gained - lost) / len(best),
        loss_change=change,
        loss_p_value=p_value,
        mcnemar_p_value=mcnemar_exact(lost, gained),
        accepted=confident if rule == "confident" else gained > lost,
        rule=rule,
    )
