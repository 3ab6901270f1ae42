"""Races in which a few members answer for all, by hand and by simulated races in two stages."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from cao.types import Item
from tools.evaluate.racing import block_ends, loss_bound, skewness_of
from tools.evaluate.racing_members import FEW, alike, few_hopeless, flips, looks
from tools.evaluate.statistics import least_gain, surely_more

N = 96
ENDS = block_ends(N)
ERROR = 0.05
RACES = 600
LEAST = least_gain(N)
LIMIT = LEAST * math.sqrt(N)
"""The t statistic over all questions up to which a candidate is accepted."""

Together = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
SHAPES: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "heavy tails": lambda rng, size: rng.standard_t(3, size=size) / math.sqrt(3),
}


def table(
    rng: np.random.Generator, members: int, means: float, apart: float, t: float, shape: str = "normal"
) -> NDArray[np.float64]:
    """Differences (members, N) whose mean over the members has exactly the paired statistic ``t``.

    Args:
        rng: draws them.
        members: m.
        means: spread of the members' means, over that of what all share on a question.
        apart: spread between members on a question, over the same.
        t: of the mean over the members, over all N questions.
        shape: of all three.
    """
    draw = SHAPES[shape]
    found = draw(rng, (1, N)) + means * draw(rng, (members, 1)) + apart * draw(rng, (members, N))
    whole = found.mean(0)
    return found - whole.mean() + t * whole.std(ddof=1) / math.sqrt(N)


def race(diffs: NDArray[np.float64], together: Together, *, selecting: bool = False) -> tuple[int, bool]:
    """Return the answers that a race asks for, and whether it drops the candidate."""
    members, whole = len(diffs), together(diffs)
    path = looks(members, ENDS, few=alike(diffs[:FEW, : ENDS[0]]))
    level = ERROR / len(path)
    for k, n in path:
        if k < members:
            dropped = few_hopeless(
                diffs[:k, :n], together(diffs[:k, :n]), members, N, level, selecting=selecting, least=LEAST
            )
        else:
            seen = whole[:n]
            dropped = seen.mean() > loss_bound(float(seen.std(ddof=1)), skewness_of(seen), n, N, level, LEAST)
        if dropped:
            return k * n, True
    return members * N, False


def mean(diffs: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = diffs.mean(0)
    return found


def test_looks_by_hand() -> None:
    assert looks(8, [24, 48], few=False) == [(8, 24)]
    assert looks(8, [24, 48], few=True) == [(2, 24), (2, 48), (4, 48)]
    assert looks(9, [12], few=True) == [(2, 12), (4, 12), (8, 12)]
    assert looks(3, [12], few=True) == [(2, 12)]


def test_members_are_alike_where_they_move_together_whatever_their_means() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=24)
    close = np.stack([shared + rng.normal(0, 0.1, size=24) + mean for mean in (0.0, 5.0)])
    assert alike(close)
    assert alike(close - 100)
    assert not alike(rng.normal(size=(2, 24)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("members", [4, 20])
@pytest.mark.parametrize("means", [0.0, 0.03, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("apart", [0.05, 0.2])
def test_members_that_would_be_accepted_together_are_dropped_at_the_stated_error(
    shape: str, members: int, means: float, apart: float
) -> None:
    """The least favourable case: all members on all questions are accepted, but only just."""
    rng = np.random.default_rng(1)
    wrong = sum(race(table(rng, members, means, apart, LIMIT - 1e-6, shape), mean)[1] for _ in range(RACES))
    assert wrong / RACES <= ERROR + 2.5 * math.sqrt(ERROR * (1 - ERROR) / RACES)


@pytest.mark.parametrize(("t", "most"), [(-0.65, 0.45), (0.0, 0.35), (1.0, 0.22), (2.5, 0.14)])
def test_hopeless_members_answer_little_where_they_are_alike(t: float, most: float) -> None:
    rng = np.random.default_rng(2)
    asked = [race(table(rng, 8, 0.005, 0.1, t), mean)[0] for _ in range(200)]
    assert np.mean(asked) / (8 * N) <= most


@pytest.mark.parametrize("power", [1.0, 2.0, 8.0])
def test_a_gain_that_grows_with_the_members_is_allowed_for(power: float) -> None:
    """Combining gains what makes all members accepted: from none for one, by any course up to a constant rate."""

    def combined(diffs: NDArray[np.float64]) -> NDArray[np.float64]:
        share = (1 - len(diffs) ** (1 - power)) if power > 1 else (len(diffs) - 1) / 7
        whole = (1 - 8 ** (1 - power)) if power > 1 else 1.0
        found: NDArray[np.float64] = diffs.mean(0) - 0.5 * share / whole
        return found

    rng, wrong = np.random.default_rng(3), 0
    for _ in range(RACES // 2):
        diffs = table(rng, 8, 0.01, 0.1, LIMIT - 1e-6) + 0.5
        assert stats.ttest_1samp(combined(diffs), 0, alternative="less").pvalue <= 0.1
        wrong += race(diffs, combined)[1]
    assert wrong / (RACES // 2) <= ERROR


def test_combining_that_harms_a_few_is_not_held_against_all() -> None:
    diffs = table(np.random.default_rng(4), 8, 0.01, 0.1, -3.0)
    assert not few_hopeless(diffs[:2, :24], diffs[:2, :24].mean(0) + 10, 8, N, ERROR, selecting=False, least=LEAST)


def test_members_without_any_spread_are_judged_by_their_mean() -> None:
    for change, dropped in ((0.1, True), (0.0, False), (-0.1, False)):
        equal = np.full((2, 24), change)
        assert few_hopeless(equal, equal[0], 8, N, 0.01, selecting=True, least=LEAST) == dropped


@pytest.mark.parametrize(("gained", "lost"), [(5, 0), (19, 8)])
@pytest.mark.parametrize("apart", [0.0, 0.02, 0.1])
def test_members_that_are_just_surely_more_accurate_are_dropped_at_the_stated_error(
    gained: int, lost: int, apart: float
) -> None:
    """What all answer is just enough; each member turns a few questions of its own."""
    rng, wrong = np.random.default_rng(7), 0
    enough = np.array([-1.0] * gained + [1.0] * lost + [0.0] * (N - gained - lost))
    assert surely_more(gained, lost, N, 0.05)
    assert not surely_more(gained - 1, lost, N, 0.05)
    for _ in range(RACES):
        whole = rng.permutation(enough)
        turned = rng.random((8, N)) < apart
        members = np.where(turned, np.clip(whole + rng.choice([-1.0, 1.0], size=(8, N)), -1, 1), whole)
        for n in ENDS:
            few = np.column_stack([members[:2, :n], [-1.0, -1.0]])
            error, least = ERROR / len(ENDS), least_gain(N + 1, 0.05)
            if few_hopeless(few, np.append(whole[:n], -1.0), 8, N + 1, error, selecting=False, least=least):
                wrong += 1
                break
    assert wrong / RACES <= ERROR + 2.5 * math.sqrt(ERROR * (1 - ERROR) / RACES)


def test_a_question_more_is_gained_by_every_member() -> None:
    old = [Item(id=str(i), correct=right, loss=1.0) for i, right in enumerate((True, True, False, False))]
    new = [Item(id=str(i), correct=right, loss=1.0) for i, right in enumerate((True, False, True))]
    assert flips(old, new).tolist() == [0.0, 1.0, -1.0, -1.0]


def test_what_a_selection_could_gain_is_allowed_for() -> None:
    """One member is right on each question, and the two that answered have not been told apart by their confidence."""
    apart = np.random.default_rng(5).normal(0, 0.02, size=(2, N))
    diffs = 0.012 + apart - apart.mean(0) + 0.001 * np.array([[1], [-1]])
    unsure = diffs.mean(0)
    assert few_hopeless(diffs, unsure, 8, N, 0.1, selecting=False, least=LEAST)
    assert not few_hopeless(diffs, unsure, 8, N, 0.1, selecting=True, least=LEAST)
