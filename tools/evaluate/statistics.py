"""What a set of answers says, and what two sets on the same questions say about each other."""

import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cao.types import AcceptRule, AnswerRule, Comparison, Item, Reward
from tools.evaluate.temperature import first_half, losses, lowest_losses
from tools.evaluate.written import are_written

CONFIDENT_LEVEL = 0.1
"""One-sided level of the rules ``either`` and ``confident``."""

SMALLEST_LEVEL, SMALLEST_POWER = 0.1, 0.8
"""Level and power at which a change is said to be seen."""

HIGHER_LEVEL = 0.1
"""One-sided level at which the loss is taken to have risen."""

RULE_MARGIN = 1.0
"""Standard errors by which a model must be better than guessing under an answer rule that replaces the first one."""

RULE_CHOICE = (
    "the one of the lowest log-loss, of the default one and those by which the model is as accurate and better than "
    "guessing by more than a standard error"
)
"""What ``best_rule`` takes, in the words of a page."""

ROUNDING = 1e-6
"""Differences of the loss below this, in nats, are none: temperatures are fitted in finite steps."""


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
    mean, error = statistics.fmean(diffs), statistics.stdev(diffs) / math.sqrt(n)
    if error == 0:  # a spread of the smallest number there is has none left behind the division
        return sys.float_info.min if mean < 0 else 1.0
    return float(stats.t.cdf(mean / error, n - 1))


def smallest_detectable(
    sd_of_diffs: float, n: int, level: float = SMALLEST_LEVEL, power: float = SMALLEST_POWER
) -> float:
    """Return the smallest mean paired difference that a one-sided test of this size would find.

    Normal approximation: (z of level + z of power) · sd / √n.

    Args:
        sd_of_diffs: standard deviation of the paired differences.
        n: pairs.
        level: one-sided level of the test.
        power: probability to find it.
    """
    return float(stats.norm.ppf(1 - level) + stats.norm.ppf(power)) * sd_of_diffs / math.sqrt(n)


def least_gain(total: int, level: float = CONFIDENT_LEVEL) -> float:
    """Return the mean that a gain must reach to be sure, over the standard deviation of all paired differences.

    Args:
        total: N, pairs, at least 2.
        level: one-sided level of the test; the smallest change that can be seen is asked for at any level.
    """
    by_test = float(stats.t.ppf(1 - level, total - 1)) / math.sqrt(total)
    return -max(by_test, smallest_detectable(1.0, total))


def most_rise(total: int) -> float:
    """Return the mean below which the loss is not surely higher, over the standard deviation of all differences.

    Args:
        total: N, pairs, at least 2.
    """
    return float(stats.t.ppf(1 - HIGHER_LEVEL, total - 1)) / math.sqrt(total)


def differences(best: Sequence[Item], candidate: Sequence[Item]) -> NDArray[np.float64]:
    """Return the paired differences of the loss, candidate minus best, each at its own temperature, (n,) float64.

    Args:
        best: n items of the best so far.
        candidate: those of the candidate, the same ids in the same order.
    """
    assert [item.id for item in best] == [item.id for item in candidate], "items of different questions"
    return _without_rounding(losses(candidate) - losses(best))


def best_rule(answers: Mapping[AnswerRule, Sequence[Item]]) -> AnswerRule:
    """Return a model's own answer rule: the one of the lowest loss, of the first one and those that may replace it.

    A rule may replace the first one where the model is as accurate by it, and better than guessing by more than
    ``RULE_MARGIN`` standard errors of the loss. Each rule is taken at its own temperature.

    Args:
        answers: rule → the model's n answers to the same questions, in one order. Those by the first rule may end
            earlier, where that was given up: the others are compared with it on the questions that it answered.

    Source: this project's; why: ADR 43.
    """
    first, *others = answers
    known = answers[first]
    shared = {rule: answers[rule][: len(known)] for rule in others}
    enough = sum(item.correct for item in known)
    exact = [rule for rule in others if sum(item.correct for item in shared[rule]) >= enough]
    able = [rule for rule in exact if _beats_guessing(answers[rule])]
    lower = {rule: differences(known, shared[rule]).mean() for rule in able}
    return min([first, *able], key=lambda rule: lower.get(rule, 0.0))


def _beats_guessing(items: Sequence[Item]) -> bool:
    if len(items) < 2 or not all(item.scores for item in items):
        return False
    guessed = losses(items) - np.log([len(item.scores) for item in items])
    return bool(guessed.mean() < -RULE_MARGIN * guessed.std(ddof=1) / math.sqrt(len(items)))


def prospects(best: Sequence[Item], candidate: Sequence[Item]) -> NDArray[np.float64]:
    """Return the paired differences of the loss of the questions asked so far, as low as they may become, (n,) float64.

    The best's losses are those that acceptance will judge by. The candidate's temperatures are not known before all
    questions are: they are taken as what suits the questions asked best, in each of the halves of all questions.

    Args:
        best: N items of the best so far.
        candidate: the candidate's on the first n of these questions.
    """
    asked = len(candidate)
    assert [item.id for item in best[:asked]] == [item.id for item in candidate], "items of different questions"
    return _without_rounding(lowest_losses(candidate, first_half(best)[:asked]) - losses(best)[:asked])


def _without_rounding(diffs: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(diffs) < ROUNDING, 0.0, diffs)


def chance_of(lots: Iterable[float]) -> float:
    """Return the mean accuracy of drawing lots over the questions where one can (not 0), 0 where there are none."""
    drawn = [lot for lot in lots if lot]
    return statistics.fmean(drawn) if drawn else 0.0


def summarise(items: Sequence[Item]) -> Reward:
    """Return accuracy, interval, mean margin, mean losses and gold likelihood of at least one item.

    Of fewer than eight questions with choices the loss is that of guessing; see ``tools.evaluate.temperature``.
    """
    assert items, "nothing to summarise"
    correct = sum(item.correct for item in items)
    counts = [len(item.scores) for item in items if item.scores]
    chance = chance_of(1 / len(item.scores) if item.scores else item.guessing for item in items)
    uniform = statistics.fmean(math.log(count) for count in counts) if counts else 0.0
    low, high = wilson(correct, len(items))
    loss = float(losses(items).mean())
    ranked = uniform > 0 and (low <= chance <= high or loss >= uniform - ROUNDING)
    return Reward(
        score=correct / len(items),
        ci95=(low, high),
        margin=statistics.fmean(item.margin for item in items),
        loss=loss,
        gold_nll_per_char=math.fsum(item.gold_nll for item in items) / sum(item.gold_chars for item in items),
        n=len(items),
        raw_loss=statistics.fmean(item.loss for item in items),
        chance=chance,
        uniform_loss=uniform,
        at_chance=ranked if counts else chance > 0 and low <= chance,
    )


def compare(
    best: Sequence[Item],
    candidate: Sequence[Item],
    rule: AcceptRule,
    *,
    level: float = CONFIDENT_LEVEL,
    price: float = 0.0,
) -> Comparison:
    """Judge a candidate against the best so far on the same questions.

    The losses are those at each side's own temperature, so that nothing is gained by making scores larger or smaller.
    A gain is sure where its paired t test says so at the level, and where it is at least the smallest change that these
    questions can see; at the level of .1 the last is the stricter one: t ≤ −2.12, one-sided .02. A candidate must gain
    its price on top.

    ``either`` accepts a sure gain of either figure, each at half the level (Bonferroni): a lower loss where the
    accuracy is not lower, or a higher accuracy, by McNemar's exact test too, where the loss is not surely higher.
    ``confident`` accepts the first alone, at the whole level. ``any`` accepts where accuracy is higher, which is the
    paper's binary reward.

    Where answers are written there is no temperature that could take a scale out of the loss, so the loss accepts
    nothing: ``either`` and ``confident`` accept a sure gain of the accuracy, at the whole level.

    Args:
        best: the best items so far.
        candidate: the candidate's items, the same ids in the same order.
        rule: the rule of acceptance.
        level: one-sided level of ``either`` and ``confident``, in (0, 1); lower where several candidates are tried.
        price: what a candidate that is costlier to serve must gain on top, at least 0: nats of the loss, and as much of
            the accuracy.

    Source: CAO-LLM §2.4 (binary reward); the rules ``either`` and ``confident`` are this project's.
    """
    assert best, "nothing to compare"
    assert price >= 0, price
    gained, lost = discordant(best, candidate)
    diffs = differences(best, candidate).tolist()
    change, p_value = statistics.fmean(diffs), paired_one_sided([diff + price for diff in diffs])
    each, smallest = level_of_each(rule, level), _smallest(diffs)
    accepted = gained > lost
    if rule != "any" and are_written(best, candidate):
        accepted = surely_more(gained, lost, len(best), level, price)
    elif rule != "any":
        accepted = gained >= lost and p_value <= each and -(change + price) >= smallest
        if rule == "either" and not accepted and surely_more(gained, lost, len(best), each, price):
            accepted = paired_one_sided([-diff for diff in diffs]) > HIGHER_LEVEL
    return Comparison(
        accuracy_change=(gained - lost) / len(best),
        loss_change=change,
        loss_p_value=p_value,
        mcnemar_p_value=mcnemar_exact(lost, gained),
        accepted=accepted,
        rule=rule,
        level=level,
        price=price,
        smallest=smallest,
    )


def level_of_each(rule: AcceptRule, level: float) -> float:
    """Return the one-sided level at which a rule tests each figure: half of its own where it tests two."""
    return level / 2 if rule == "either" else level


def discordant(best: Sequence[Item], candidate: Sequence[Item]) -> tuple[int, int]:
    """Return how many questions only the candidate answers right, and how many only the best.

    Args: as in ``compare``; of the candidate the first ones may do.
    """
    pairs = list(zip(best, candidate, strict=False))
    gained = sum(new.correct and not old.correct for old, new in pairs)
    return gained, sum(old.correct and not new.correct for old, new in pairs)


def surely_more(gained: int, lost: int, n: int, level: float, price: float = 0.0) -> bool:
    """Return whether a candidate surely answers more questions right, by the paired t test and by McNemar's exact one.

    Args:
        gained: questions that only the candidate answers right.
        lost: questions that only the best answers right.
        n: all questions.
        level: one-sided.
        price: share of the questions that it must gain on top, at least 0.
    """
    if gained <= lost or mcnemar_exact(lost, gained) / 2 > level:  # symmetric: half of it is the one-sided p-value
        return False
    priced = [price - 1.0] * gained + [price + 1.0] * lost + [price] * (n - gained - lost)
    return paired_one_sided(priced) <= level and -statistics.fmean(priced) >= _smallest(priced)


def _smallest(diffs: Sequence[float]) -> float:
    return smallest_detectable(statistics.stdev(diffs), len(diffs)) if len(diffs) > 1 else 0.0
