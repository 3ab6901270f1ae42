"""The statistics by hand arithmetic."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cao.types import AcceptRule, Item
from tools.evaluate.statistics import (
    compare,
    mcnemar_exact,
    paired_one_sided,
    smallest_detectable,
    summarise,
    surely_more,
    wilson,
)


def items(correct: str, losses: list[float]) -> list[Item]:
    pairs = zip(correct, losses, strict=True)
    return [
        Item(id=f"q{i}", correct=mark == "1", loss=loss, margin=loss / 2, gold_nll=3.0 * i, gold_chars=i + 1)
        for i, (mark, loss) in enumerate(pairs)
    ]


def test_wilson_of_a_half_by_hand() -> None:
    # n = 96, z² = 3.8415: half width z·sqrt(.25/96 + z²/(4·96²)) / (1 + z²/96) = .09807
    low, high = wilson(48, 96)
    assert (low, high) == pytest.approx((0.40193, 0.59807), abs=1e-5)


def test_wilson_at_the_borders_stays_inside_zero_and_one() -> None:
    low, high = wilson(0, 10)
    assert low == pytest.approx(0.0, abs=1e-12)
    assert high == pytest.approx(3.8415 / 13.8415, abs=1e-4)  # z²/(n + z²)
    assert wilson(10, 10) == pytest.approx((1 - high, 1.0))


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_its_closed_formula(pair: tuple[int, int]) -> None:
    (correct, n), z = pair, NormalDist().inv_cdf(0.975)
    share = correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert wilson(*pair) == pytest.approx((max(0.0, centre - half), min(1.0, centre + half)), abs=1e-12)


def test_mcnemar_by_hand() -> None:
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(0, 1) == 1.0
    assert mcnemar_exact(1, 8) == pytest.approx(2 * (1 + 9) / 512)
    assert mcnemar_exact(8, 1) == mcnemar_exact(1, 8)
    assert mcnemar_exact(5, 5) == 1.0


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_twice_the_smaller_tail_of_fair_coins(b: int, c: int) -> None:
    tail = sum(math.comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c)
    assert mcnemar_exact(b, c) == pytest.approx(min(1.0, 2 * tail), rel=1e-12)


def test_mcnemar_of_many_pairs_does_not_overflow() -> None:
    assert 0 < mcnemar_exact(4900, 5100) < 0.05


def test_paired_test_by_hand() -> None:
    # mean -1, sd 1, n = 3: t = -√3 on two degrees of freedom; P = 1/2 - √3/(2·√(2 + 3)) = .11270
    assert paired_one_sided([-2.0, -1.0, 0.0]) == pytest.approx(0.5 - math.sqrt(3 / 20), abs=1e-12)
    assert paired_one_sided([2.0, 1.0, 0.0]) == pytest.approx(0.5 + math.sqrt(3 / 20), abs=1e-12)


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_paired_test_of_two_differences_is_cauchys(first: float, second: float) -> None:
    # one degree of freedom: P = 1/2 + arctan(t)/π with t = (first + second) / |first − second|
    assume(abs(first - second) > 1e-3)
    t = (first + second) / abs(first - second)
    assert paired_one_sided([first, second]) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-12)


def test_paired_test_without_spread_or_pairs() -> None:
    assert paired_one_sided([]) == paired_one_sided([-5.0]) == 1.0
    assert paired_one_sided([0.0] * 9) == paired_one_sided([0.3] * 9) == 1.0
    assert 0 < paired_one_sided([-0.3] * 9) < 1e-6


@example([0.0, 0.0, 5e-324, 5e-324])
@given(st.lists(st.floats(-5, 5), min_size=0, max_size=30))
def test_paired_test_is_always_a_probability(diffs: list[float]) -> None:
    assert 0 <= paired_one_sided(diffs) <= 1


def test_smallest_detectable_by_hand() -> None:
    # (1.28155 + 0.84162) · 0.5 / √100
    assert smallest_detectable(0.5, 100) == pytest.approx(0.106159, abs=1e-5)
    assert smallest_detectable(0.5, 400) == pytest.approx(0.106159 / 2, abs=1e-5)
    assert smallest_detectable(0.0, 10) == 0.0


def test_a_difference_of_the_smallest_detectable_size_is_found_in_eight_of_ten() -> None:
    draws = np.random.default_rng(0).normal(-smallest_detectable(1.0, 100), 1.0, size=(2000, 100))
    found = sum(paired_one_sided(row.tolist()) <= 0.1 for row in draws) / len(draws)
    assert found == pytest.approx(0.8, abs=0.03)


def test_summary_by_hand() -> None:
    reward = summarise(items("1100", [0.5, 0.5, 1.0, 2.0]))
    assert reward.score == 0.5
    assert reward.n == 4
    assert reward.loss == 1.0
    assert reward.margin == 0.5
    assert reward.gold_nll_per_char == pytest.approx((0 + 3 + 6 + 9) / (1 + 2 + 3 + 4))
    assert reward.ci95 == wilson(2, 4)
    with pytest.raises(AssertionError):
        summarise([])


@pytest.mark.parametrize(
    ("best", "candidate", "drop", "rule", "accepted"),
    [
        ("1100", "1100", 0.5, "confident", True),  # same accuracy, surely lower loss
        ("1100", "1000", 0.5, "confident", False),  # lower loss, lower accuracy
        ("1100", "1111", -0.5, "confident", False),  # higher accuracy, higher loss
        ("1100", "1111", 0.0, "confident", False),  # higher accuracy, equal loss
        ("1100", "1100", 0.5, "either", True),
        ("1100", "1000", 0.5, "either", False),
        ("1" * 12 + "0" * 84, "1" * 32 + "0" * 64, 0.0, "either", True),  # surely more accurate, equal loss
        ("1" * 12 + "0" * 84, "1" * 32 + "0" * 64, 0.0, "confident", False),
        ("1" * 12 + "0" * 84, "1" * 32 + "0" * 64, -0.5, "either", False),  # the loss is surely higher
        ("1" * 12 + "0" * 84, "1" * 16 + "0" * 80, 0.0, "either", False),  # four more of 96: p = 1/16
        ("1100", "1110", -0.5, "any", True),
        ("1100", "0011", 0.5, "any", False),  # equal accuracy
        ("1100", "1000", 0.5, "any", False),
    ],
)
def test_the_acceptance_rules(best: str, candidate: str, drop: float, rule: AcceptRule, accepted: bool) -> None:
    times = len(best) // 4
    old, new = [1.0, 1.2, 1.4, 1.6] * times, [1.0 - drop, 1.21 - drop, 1.4 - drop, 1.59 - drop] * times
    assert compare(items(best, old), items(candidate, new), rule).accepted is accepted


def test_more_right_answers_are_sure_by_both_tests_and_behind_the_price() -> None:
    # five of 96 gained, none lost: McNemar 1/32; t = .052083 / (.223361 / √96) = 2.2847, one-sided .0123
    assert surely_more(5, 0, 96, 0.05)
    assert not surely_more(5, 0, 96, 0.025)  # the t test says yes, the exact one no
    assert not surely_more(4, 0, 96, 0.2)  # 1/16, and t = 2.03 is less than these questions can see
    assert not surely_more(0, 5, 96, 0.99)
    # 20 gained, 6 lost: mean .145833; the spread .502363 / √96 = .051272, of which 2.1232 are .108863
    assert surely_more(20, 6, 96, 0.05)
    assert surely_more(20, 6, 96, 0.05, price=0.03)
    assert not surely_more(20, 6, 96, 0.05, price=0.04)


def test_either_tests_each_figure_at_half_the_level() -> None:
    best, candidate = items("1" * 12 + "0" * 84, [1.0] * 96), items("1" * 22 + "0" * 74, [1.0] * 96)
    assert compare(best, candidate, "either", level=2 / 2**10).accepted  # ten gained, none lost: 1/1024
    assert not compare(best, candidate, "either", level=1.9 / 2**10).accepted


def test_p_values_of_both_sides_and_the_worth_of_a_change() -> None:
    verdict = compare(items("11100000", [1.0] * 8), items("01111110", [1.5] * 8), "any")
    assert verdict.accuracy_p_value == pytest.approx(6 / 32)
    assert verdict.worth == pytest.approx(3 / 8 - 0.5)
    back = compare(items("01111110", [1.0] * 8), items("11100000", [1.0] * 8), "any")
    assert back.accuracy_p_value == 1.0  # exactly 31/32, which the two-sided one does not say
    assert compare(items("10", [1.0] * 2), items("10", [1.0] * 2), "any").accuracy_p_value == 1.0


def test_a_lower_but_uncertain_loss_is_not_accepted() -> None:
    verdict = compare(items("1100", [1, 1, 1, 1]), items("1100", [0, 2, 1, 0.9]), "confident")
    assert verdict.loss_change == pytest.approx(-0.025)
    assert verdict.loss_p_value > 0.1
    assert not verdict.accepted


def test_comparison_counts_discordant_pairs() -> None:
    verdict = compare(items("11100000", [1.0] * 8), items("01111110", [1.0] * 8), "any")
    assert verdict.accuracy_change == pytest.approx(3 / 8)
    assert verdict.mcnemar_p_value == mcnemar_exact(1, 4) == pytest.approx(2 * 6 / 32)


def test_items_of_different_questions_are_not_compared() -> None:
    some = items("10", [1.0, 1.0])
    with pytest.raises(AssertionError, match="different questions"):
        compare(some, some[::-1], "any")


def test_a_change_below_what_the_questions_can_see_is_not_accepted() -> None:
    """t of −1.8 on 100 pairs: sure at .05, and less than 2.12 standard errors."""
    noise = np.random.default_rng(0).normal(size=100)
    diffs = (noise - noise.mean()) / noise.std(ddof=1) - 0.18
    best, candidate = items("1" * 100, [2.0] * 100), items("1" * 100, (2 + diffs).tolist())
    verdict = compare(best, candidate, "confident")
    assert verdict.loss_p_value < 0.05
    assert verdict.smallest == pytest.approx(0.212317, abs=1e-5)
    assert not verdict.accepted
    assert compare(best, items("1" * 100, (2 + diffs - 0.05).tolist()), "confident").accepted


def test_a_candidate_pays_its_price_and_a_corrected_level() -> None:
    noise = np.random.default_rng(0).normal(size=100)
    diffs = (noise - noise.mean()) / noise.std(ddof=1) - 0.25
    best, candidate = items("1" * 100, [2.0] * 100), items("1" * 100, (2 + diffs).tolist())
    assert compare(best, candidate, "confident", price=0.03).accepted
    priced = compare(best, candidate, "confident", price=0.04)
    assert (priced.accepted, priced.price, priced.loss_change) == (False, 0.04, pytest.approx(-0.25))
    corrected = compare(best, candidate, "confident", level=0.001)
    assert (corrected.accepted, corrected.level) == (False, 0.001)
