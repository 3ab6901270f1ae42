"""Racing by hand, by brute force and by thousands of simulated races."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from cao.types import AcceptRule, Item
from tests.tools.evaluate.answered import item
from tools.evaluate.racing import (
    FIRST_BLOCK,
    LARGEST_BLOCK,
    block_ends,
    chance_of_a_lead,
    chance_of_surely_more,
    hopeless,
    loss_bound,
)
from tools.evaluate.statistics import compare, least_gain, surely_more

N = 96
RACES = 2000
ERROR = 0.05
LEAST = least_gain(N)
NOISE: dict[str, Callable[[np.random.Generator], NDArray[np.float64]]] = {
    "normal": lambda rng: rng.normal(size=N),
    "heavy tails": lambda rng: rng.standard_t(3, size=N),
    "a few losses": lambda rng: rng.exponential(size=N),
    "a few gains": lambda rng: -rng.exponential(size=N),
    "fewer gains": lambda rng: -rng.lognormal(size=N),
}


def items(losses: NDArray[np.float64], correct: NDArray[np.bool_] | None = None) -> list[Item]:
    right = np.ones(len(losses), dtype=bool) if correct is None else correct
    return [
        Item(id=f"q{i}", correct=bool(mark), loss=float(loss))
        for i, (loss, mark) in enumerate(zip(losses, right, strict=True))
    ]


def shifted(noise: NDArray[np.float64], t: float) -> NDArray[np.float64]:
    """Differences of these shapes whose paired t statistic over all of them is exactly ``t``."""
    plain = noise - noise.mean()
    return plain / plain.std(ddof=1) + t / math.sqrt(len(noise))


def answered(gains: int, losses: int) -> tuple[list[Item], list[Item]]:
    """N pairs: the first ones gained, the next ones lost, the others right in both."""
    old, new = np.ones(N, dtype=bool), np.ones(N, dtype=bool)
    old[:gains], new[gains : gains + losses] = False, False
    return items(np.ones(N), old), items(np.ones(N), new)


BASE = items(np.full(N, 3.0))


def race(best: list[Item], candidate: list[Item], rule: AcceptRule, error: float) -> tuple[int, str]:
    """Return after how many questions a race ends, and why it ended before the last one."""
    looks = block_ends(len(candidate))[:-1]
    for end in looks:
        if why := hopeless(best, candidate[:end], rule, error / len(looks)):
            return end, why
    return len(candidate), ""


def races(best: list[Item], candidate: list[Item], orders: int, seed: int) -> list[tuple[int, str]]:
    """Race under the paper's rule in many random orders of the questions."""
    rng, ends = np.random.default_rng(seed), []
    for _ in range(orders):
        order = rng.permutation(N)
        ends.append(race([best[i] for i in order], [candidate[i] for i in order], "any", ERROR))
    return ends


def test_blocks_by_hand() -> None:
    assert block_ends(12) == [12]
    assert block_ends(35) == [35]  # a block of eleven is not worth a look
    assert block_ends(36) == [24, 36]
    assert block_ends(96) == [24, 48, 72, 96]
    assert block_ends(96, 48) == [48, 96]
    assert block_ends(200) == [24, 48, 72, 108, 162, 200]


@given(st.integers(1, 20_000))
def test_blocks_cover_every_question_and_a_kill_costs_little(total: int) -> None:
    ends = block_ends(total)
    sizes = np.diff([0, *ends])
    assert ends[-1] == total
    assert sizes.min() >= min(total, FIRST_BLOCK // 2)
    assert sizes.max() <= LARGEST_BLOCK + FIRST_BLOCK // 2


def test_bound_of_the_loss_by_hand() -> None:
    # N = 96, n = 24: acceptance below −2.1232/√96 = −.21669; t(23) at .05/3 is 2.2637, times √(1/24 − 1/96) = .17678
    assert loss_bound(2.0, 0.0, 24, 96, ERROR / 3, LEAST) == pytest.approx(2 * (-0.21669 + 2.2637 * 0.17678), abs=2e-4)
    assert loss_bound(0.0, 0.0, 24, 96, ERROR / 3, LEAST) == 0.0
    assert loss_bound(1.0, 0.0, 95, 96, ERROR / 3, LEAST) < 0  # near the end a gain must already be seen


def at_most(few: int, population: int, marked: int, drawn: int) -> float:
    ways = [math.comb(marked, i) * math.comb(population - marked, drawn - i) for i in range(min(few, drawn) + 1)]
    return sum(ways) / math.comb(population, drawn)


def test_skewed_gains_raise_the_bound_by_the_edgeworth_term() -> None:
    # all questions still to come: t + |skewness|·(2t² + 1)/(6√n), Hall's formula for Student's t
    n, many, t = 24, 10**9, float(stats.t.ppf(1 - 0.01, 23))
    raised = (loss_bound(1.0, -2.0, n, many, 0.01, LEAST) - loss_bound(1.0, 0.0, n, many, 0.01, LEAST)) * math.sqrt(n)
    assert raised == pytest.approx(2 * (2 * t * t + 1) / (6 * math.sqrt(n)), rel=1e-4)
    assert loss_bound(1.0, 2.0, n, 96, 0.01, LEAST) == loss_bound(1.0, 0.0, n, 96, 0.01, LEAST)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 20))
def test_chance_of_a_lead_is_the_largest_over_all_that_may_come(gained: int, lost: int, left: int) -> None:
    seen = gained + lost
    every = [
        at_most(gained, changed, wins, seen)
        for changed in range(max(seen, 1), seen + left + 1)
        for wins in range(changed // 2 + 1, changed + 1)
    ]
    assert chance_of_a_lead(gained, lost, left) == pytest.approx(1.0 if gained > lost else max(every), abs=1e-12)


@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 12), st.sampled_from([0.0, 0.05]))
def test_chance_of_a_sure_gain_is_the_largest_over_all_that_may_come(
    gained: int, lost: int, left: int, price: float
) -> None:
    asked = 16
    total = asked + left
    every = [
        at_most(gained, total, wins, asked)
        for losses in range(lost, lost + left + 1)
        for wins in range(gained, gained + left + 1)
        if wins + losses <= total and surely_more(wins, losses, total, 0.1, price)
    ]
    found = chance_of_surely_more(gained, lost, asked, total, 0.1, price)
    assert found == pytest.approx(max(every, default=0.0), abs=1e-12)


@pytest.mark.parametrize(("gains", "losses"), [(5, 0), (15, 5), (36, 20)])
def test_a_candidate_that_is_just_surely_more_accurate_is_dropped_at_the_stated_error(gains: int, losses: int) -> None:
    assert surely_more(gains, losses, N, 0.05)
    assert not surely_more(gains - 1, losses, N, 0.05)
    old, new = answered(gains, losses)
    rng, wrong = np.random.default_rng(6), 0
    noise = rng.normal(0.0, 0.3, size=N)
    for _ in range(RACES // 2):
        order = rng.permutation(N)
        losses_of = 1.0 + shifted(noise, 1.2)[order]  # all but surely higher
        best = [old[i] for i in order]
        candidate = [new[i].model_copy(update={"loss": float(x)}) for i, x in zip(order, losses_of, strict=True)]
        wrong += race(best, candidate, "either", ERROR)[1] != ""
    assert compare(best, candidate, "either").accepted
    assert wrong / (RACES // 2) <= ERROR + 3 * math.sqrt(ERROR * (1 - ERROR) / (RACES // 2))


def test_a_loss_that_is_surely_higher_ends_a_race_whatever_the_accuracy() -> None:
    old, new = answered(40, 0)
    worse = [one.model_copy(update={"loss": 3.0 + 0.1 * (i % 5)}) for i, one in enumerate(new)]
    assert race(old, worse, "either", ERROR) == (24, "the log-loss will hardly be low enough for any accuracy")
    assert race(old, new, "either", ERROR) == (N, "")


@pytest.mark.parametrize(("rule", "lost", "dropped"), [("any", 24, True), ("any", 23, False), ("confident", 24, False)])
def test_what_cannot_be_turned_around_is_dropped_at_any_error(rule: AcceptRule, lost: int, dropped: bool) -> None:
    old, new = answered(0, lost)
    why = hopeless(old, new[:72], rule, 1e-12)
    assert ("cannot become" in why) == dropped
    worse_by_one = hopeless(old, answered(0, 26)[1][:71], "confident", 1e-12)
    assert "cannot become as high" in worse_by_one


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=36, max_size=120),
    st.sampled_from(["either", "confident", "any"]),
)
def test_at_no_error_racing_never_changes_a_verdict(pairs: list[tuple[bool, bool]], rule: AcceptRule) -> None:
    old, new = (np.array(side) for side in zip(*pairs, strict=True))
    best, candidate = items(1.0 - old, old), items(1.0 - new, new)
    _, why = race(best, candidate, rule, 1e-300)
    assert not (why and compare(best, candidate, rule).accepted)


@pytest.mark.parametrize("shape", NOISE)
def test_a_candidate_that_all_questions_would_accept_is_dropped_at_the_stated_error(shape: str) -> None:
    """The least favourable differences: over all questions they are accepted, but only just."""
    rng, wrong = np.random.default_rng(1), 0
    just = least_gain(N) * math.sqrt(N) - 1e-6
    for _ in range(RACES):
        candidate = items(3.0 + shifted(NOISE[shape](rng), just))
        wrong += race(BASE, candidate, "confident", ERROR)[1] != ""
    assert compare(BASE, candidate, "confident").accepted
    assert wrong / RACES <= ERROR + 3 * math.sqrt(ERROR * (1 - ERROR) / RACES)


@pytest.mark.parametrize("effect", [-0.3, -0.5])
def test_a_truly_better_candidate_is_dropped_at_the_stated_error(effect: float) -> None:
    """Questions drawn anew in every race; an effect of .3 standard deviations is accepted in full in 79 of 100."""
    rng, wrong, accepted, kept = np.random.default_rng(2), 0, 0, 0
    for _ in range(RACES):
        candidate = items(3.0 + rng.normal(effect, 1.0, size=N))
        full, dropped = compare(BASE, candidate, "confident").accepted, race(BASE, candidate, "confident", ERROR)[1]
        wrong, accepted, kept = wrong + bool(dropped), accepted + full, kept + (full and not dropped)
    assert wrong / RACES <= ERROR + 3 * math.sqrt(ERROR * (1 - ERROR) / RACES)
    assert kept >= accepted - RACES * ERROR


@pytest.mark.parametrize(("gains", "losses"), [(1, 0), (5, 4), (16, 15), (40, 39)])
def test_under_the_papers_rule_the_error_holds_exactly(gains: int, losses: int) -> None:
    best, candidate = answered(gains, losses)
    assert compare(best, candidate, "any").accepted
    dropped = np.mean([why != "" for _, why in races(best, candidate, RACES, 3)])
    assert dropped <= ERROR + 3 * math.sqrt(ERROR * (1 - ERROR) / RACES)


@pytest.mark.parametrize(("t", "most"), [(0.0, 0.80), (1.0, 0.65), (2.5, 0.45), (5.0, 0.32)])
def test_hopeless_candidates_are_answered_in_part(t: float, most: float) -> None:
    rng = np.random.default_rng(4)
    ends = [race(BASE, items(3.0 + shifted(rng.normal(size=N), t)), "confident", ERROR)[0] for _ in range(500)]
    assert np.mean(ends) / N <= most


def test_far_worse_accuracy_is_dropped_early_under_the_papers_rule() -> None:
    best, candidate = answered(4, 30)
    assert not compare(best, candidate, "any").accepted
    assert np.mean([end for end, _ in races(best, candidate, 200, 5)]) / N < 0.6


def test_an_equal_model_is_not_dropped_but_asked_to_the_end() -> None:
    assert race(BASE, BASE, "confident", ERROR) == (N, "")


def test_items_of_different_questions_are_not_raced() -> None:
    with pytest.raises(AssertionError, match="different questions"):
        hopeless(BASE, BASE[1:25], "any", ERROR)


def scored(rng: np.random.Generator, gain: float, noise: float) -> tuple[list[Item], list[Item]]:
    """Answers to four choices each by a model that knows a little, and by it with noise and a gain."""
    gold, rows = rng.integers(4, size=N), np.arange(N)
    scores = rng.normal(size=(N, 4)) * rng.lognormal(0, 0.5, size=(N, 1))
    scores[rows, gold] += 0.6
    other = scores + noise * rng.normal(size=(N, 4))
    other[rows, gold] += gain
    return tuple(  # type: ignore[return-value]
        [item(f"q{i}", side[i].tolist(), int(gold[i])) for i in rows] for side in (scores, other)
    )


@pytest.mark.parametrize("noise", [0.15, 0.6])
def test_losses_at_temperatures_not_known_yet_are_raced_below_the_stated_error(noise: float) -> None:
    """Candidates that are accepted by at most a quarter more than must be, raced in random orders."""
    rng, wrong, raced = np.random.default_rng(6), 0, 0
    while raced < 120:
        best, candidate = scored(rng, rng.uniform(0.2, 1.0) * max(noise, 0.3), noise)
        full = compare(best, candidate, "confident")
        if full.accepted and -full.loss_change < 1.25 * full.smallest:
            for _ in range(4):
                order, raced = rng.permutation(N), raced + 1
                wrong += race([best[i] for i in order], [candidate[i] for i in order], "confident", ERROR)[1] != ""
    assert wrong / raced <= ERROR + 3 * math.sqrt(ERROR * (1 - ERROR) / raced)


@pytest.mark.parametrize(("noise", "most"), [(0.15, 0.95), (1.5, 0.7)])
def test_noise_on_scores_is_answered_in_part(noise: float, most: float) -> None:
    rng = np.random.default_rng(7)
    ends = [race(*scored(rng, 0.0, noise), "confident", ERROR)[0] for _ in range(100)]
    assert np.mean(ends) / N <= most


@pytest.mark.parametrize("price", [0.0, 0.2])
def test_a_price_and_a_level_are_asked_for_at_each_look(price: float) -> None:
    """A gain of .15 with a spread of .1: sure without a price, hopeless with one of .2."""
    candidate = items(3.0 + shifted(np.random.default_rng(8).normal(size=N), 0.0) * 0.1 - 0.15)
    assert compare(BASE, candidate, "confident", level=1e-4, price=price).accepted == (price == 0)
    assert bool(hopeless(BASE, candidate[:48], "confident", ERROR, level=1e-4, price=price)) == (price > 0)
