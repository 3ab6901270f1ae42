"""Racing where several adapters answer together: a few members may show that all of them are hopeless.

Members are adapters from as many random batches of the prompts, so the first k are a random sample of the m, as the
first n questions are one of the N. Where members differ little from each other, next to what all of them change, two
stand for all: they answer every block before the others begin, with a look after each block, and then, on all N
questions, 4, 8, … members are looked at. Otherwise many members on few questions say more, and the race is that of
``tools.evaluate.racing``. The looks of the way that is taken share the error evenly (Bonferroni).

Tested is, as there, "all m on all N would be accepted", under the rules ``confident`` and ``either``. The latter's
second figure, the accuracy, is tested like the loss, question by question, and shares the error with the test whether
the loss is surely higher. Right and wrong are coarse, so one question is added that every member gains: without it a
few that answer as the best does would leave no doubt of the others. The rule ``any`` has no such looks: how many
answers the members still to come would turn is not known from those that answered.

Losses are as there at each side's own temperature: a member's at its own, several members' at that of their combined
scores, taken as what suits the questions asked best.

Assumed is, beside what racing assumes, that the members' means spread like a normal sample; simulated, the error holds
then for any ratio of their spread to the questions'. Where a few members carry the gain of all, it does not.

Source: Cochran, Sampling Techniques, 1977, ch. 10 (subsampling in two stages); Satterthwaite, Biometrics Bulletin, 1946
(degrees of freedom); the composition is ours.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cao.types import Item
from tools.evaluate.racing import quantile, skewness_of

FEW = 2
"""Members that answer first where they may stand for all."""

ALIKE = 0.05
"""Variance between members on a question, over that of what they share, up to which a few may stand for all."""

CAUTION = 2.0
"""Factor on the variance between the members' means: two may look more alike than they are."""


def looks(members: int, ends: Sequence[int], *, few: bool) -> list[tuple[int, int]]:
    """Return at which (members, questions) answered a race looks, in order; all on all is no look.

    Args:
        members: m, all that answer together.
        ends: of the blocks, the last one N.
        few: whether a few members answer every question before the others begin; they double at N questions.
    """
    if not few:
        return [(members, end) for end in ends[:-1]]
    doubled = [FEW * 2**i for i in range(1, members.bit_length()) if FEW * 2**i < members]
    return [(FEW, end) for end in ends] + [(count, ends[-1]) for count in doubled]


def alike(diffs: NDArray[np.float64]) -> bool:
    """Return whether members differ so little on a question that a few of them may stand for all.

    Only spreads are looked at, no mean: what is chosen here does not favour a verdict.

    Args:
        diffs: (k, n) loss of k ≥ 2 members, each alone, minus the best's, on n ≥ 2 questions.
    """
    apart = _apart(diffs)
    shared = float(diffs.mean(0).var(ddof=1)) - apart / len(diffs)
    return bool(apart <= ALIKE * shared)


def flips(best: Sequence[Item], candidate: Sequence[Item]) -> NDArray[np.float64]:
    """Return what a candidate changes in being right, −1 where it gains a question, (n + 1,), the last one gained.

    Args:
        best: the best items so far.
        candidate: those of the candidate on the first n of these questions.
    """
    lost = [float(old.correct) - new.correct for old, new in zip(best, candidate, strict=False)]
    return np.array([*lost, -1.0])


def few_hopeless(
    diffs: NDArray[np.float64],
    together: NDArray[np.float64],
    members: int,
    total: int,
    error: float,
    *,
    selecting: bool,
    least: float,
) -> bool:
    """Return whether a sure gain of m members together is hopeless, from what k of them answered.

    The mean of k members on n questions differs from that of m on N by the questions' spread (as in ``loss_bound``), by
    what the members differ in question by question, and by their means; the dofs are Welch's and Satterthwaite's.
    Their means' variance is not taken below what chance alone gives, since two may be equal by chance.

    Combining may gain over the mean member. How much more m gain than k is not known, so both ends are tried: no gain
    at all, and one that grows in proportion to the members beyond the first. The bound is concave in between. Where
    one member's answer is taken over, what the best of the k on each question gains is tried too.

    Args:
        diffs: (k, n) each member's change of the figure over the best alone, lower is better, plus the price of
            serving them, 2 ≤ k < m, 2 ≤ n ≤ N.
        together: (n,) that of the k combined.
        members: m.
        total: N.
        error: what this look may spend of the error.
        selecting: whether combining takes over one member's answer.
        least: the highest mean over all N with which m are accepted, over their standard deviation.
    """
    (k, n), mean = diffs.shape, diffs.mean(0)
    assert 2 <= k < members, (k, members)
    assert 2 <= n <= total, (n, total)
    missing, apart = 1 / k - 1 / members, _apart(diffs)
    by_question = missing * apart / total
    by_member = CAUTION * missing * max(float(diffs.mean(1).var(ddof=1)), apart / n)
    whole = math.sqrt(max(0.0, float(mean.var(ddof=1)) - missing * apart))  # spread of all members' mean
    courses = [mean, mean - (members - 1) / (k - 1) * (mean - together), *([diffs.min(0)] if selecting else [])]
    for values in courses:
        by_sample = float(values.var(ddof=1)) * (1 / n - 1 / total)
        variance = by_sample + by_question + by_member
        if variance > 0:
            parts = ((by_sample, n - 1), (by_question, (k - 1) * (n - 1)), (by_member, k - 1))
            dof = variance**2 / math.fsum(part**2 / own for part, own in parts)
            reach = quantile(dof, error, skewness_of(values), n, total) * math.sqrt(variance)
        else:
            reach = 0.0
        if float(values.mean()) <= whole * least + reach:
            return False
    return True


def _apart(diffs: NDArray[np.float64]) -> float:
    """Return the variance of what members differ in question by question, their means taken off."""
    members, questions = diffs.shape
    rest = diffs - diffs.mean(0) - diffs.mean(1, keepdims=True) + diffs.mean()
    return float((rest**2).sum() / ((members - 1) * (questions - 1)))
