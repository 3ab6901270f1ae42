"""The energy test and the other statistics, by hand and by brute force."""

import itertools
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.tools.detect_drift.clouds import cloud, tasks, texts
from tools.detect_drift import detect_drift, energy
from tools.detect_drift.energy import PairwiseDistances, distances
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.mixture import explain_by_mixture
from tools.detect_drift.order import order_test
from tools.detect_drift.permutation import combine, draw_windows, p_values, slices, smallest_p
from tools.detect_drift.two_sample import rank_sums


def plain_energy(x: list[list[float]], y: list[list[float]]) -> float:
    """The definition, sum by sum: 2·E‖X−Y‖ − E‖X−X'‖ − E‖Y−Y'‖."""

    def mean(a: list[list[float]], b: list[list[float]]) -> float:
        return sum(math.dist(p, q) for p in a for q in b) / (len(a) * len(b))

    return 2 * mean(x, y) - mean(x, x) - mean(y, y)


def column(*values: float) -> Tensor:
    return torch.tensor(values).unsqueeze(1)


def permutation_test(x: Tensor, y: Tensor, permutations: int, seed: int = 0) -> tuple[float, float]:
    """Energy alone, every row of the reference exchangeable."""
    pairs = PairwiseDistances(distances(x, x), distances(x, y), distances(y, y))
    drawn = draw_windows(len(x), len(x) + len(y), permutations, seed)
    statistic = pairs.relabelled(torch.arange(len(y)), drawn)
    assert statistic[0] == pytest.approx(pairs.energy_distance, abs=energy.TIE / 10)
    tie = energy.TIE * pairs.between.mean().item()
    return pairs.energy_distance, float(p_values(statistic, tie)[0])


def energy_distance(x: Tensor, y: Tensor) -> float:
    return PairwiseDistances(distances(x, x), distances(x, y), distances(y, y)).energy_distance


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (column(0), column(3), 6.0),  # 2·3 − 0 − 0
        (column(0, 2), column(1), 1.0),  # 2·1 − (0+2+2+0)/4 − 0
        (column(0, 2), column(0, 4), 1.0),  # 2·(0+4+2+2)/4 − 1 − 2
        (torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]), 10.0),
        (column(1, 2, 3), column(3, 1, 2), 0.0),
    ],
)
def test_energy_distance_by_hand(x: Tensor, y: Tensor, expected: float) -> None:
    assert energy_distance(x, y) == pytest.approx(expected, abs=1e-9)


POINTS = st.lists(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=2), min_size=1, max_size=6)


@given(POINTS, POINTS)
@settings(max_examples=60)
def test_energy_distance_equals_the_definition_and_is_symmetric(x: list[list[float]], y: list[list[float]]) -> None:
    fast = energy_distance(torch.tensor(x), torch.tensor(y))
    assert fast == pytest.approx(max(plain_energy(x, y), 0.0), abs=1e-5)
    assert fast == pytest.approx(energy_distance(torch.tensor(y), torch.tensor(x)), abs=1e-9)
    assert fast >= 0


def test_p_value_approaches_the_share_of_all_relabellings() -> None:
    pooled = [[0.0], [0.3], [1.9], [0.2], [2.5], [2.0], [1.7]]
    observed = plain_energy(pooled[:3], pooled[3:])
    relabelled = [
        plain_energy([pooled[i] for i in chosen], [pooled[i] for i in range(7) if i not in chosen])
        for chosen in itertools.combinations(range(7), 3)
    ]
    exact = sum(value >= observed - 1e-9 for value in relabelled) / len(relabelled)
    assert 0.1 < exact < 0.9
    points = torch.tensor(pooled)
    _, p_value = permutation_test(points[:3], points[3:], 20_000, 0)
    assert p_value == pytest.approx(exact, abs=0.015)  # four standard errors


def test_p_value_is_k_plus_one_over_b_plus_one() -> None:
    distance, p_value = permutation_test(cloud(0, 20), cloud(1, 20, shift=9), 49, 0)
    assert p_value == 1 / 50
    assert distance == pytest.approx(energy_distance(cloud(0, 20), cloud(1, 20, shift=9)))


def test_false_alarms_keep_the_level() -> None:
    tests = [permutation_test(cloud(2 * i, 10), cloud(2 * i + 1, 20), 99, i)[1] for i in range(500)]
    assert 0.06 < np.mean(np.array(tests) <= 0.1) < 0.14  # three standard errors around .1
    assert 0.02 < np.mean(np.array(tests) <= 0.05) < 0.08


def test_identical_points_tie_with_every_permutation() -> None:
    same = torch.ones(9, 4)
    assert permutation_test(same, same, 99, 0) == (0.0, 1.0)


def test_rounding_of_the_encoder_does_not_change_the_p_value() -> None:
    x, y = torch.eye(6).repeat(2, 1), torch.eye(6).repeat(3, 1)  # heavy ties
    noise = 1e-7 * cloud(3, 30, channels=6)
    plain = permutation_test(x, y, 499, 1)[1]
    assert permutation_test(x + noise[:12], y + noise[12:], 499, 1)[1] == plain


def test_equal_seeds_give_equal_p_values_and_row_order_leaves_the_distance() -> None:
    x, y = cloud(0, 12), cloud(1, 30, shift=0.4)
    first = permutation_test(x, y, 199, 5)
    assert permutation_test(x, y, 199, 5) == first
    distance, p_value = permutation_test(x.flip(0), y.flip(0), 199, 5)
    assert distance == pytest.approx(first[0], abs=1e-12)
    assert p_value == pytest.approx(first[1], abs=0.1)


def test_slices_of_a_large_problem_draw_the_same_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = cloud(0, 12), cloud(1, 30, shift=0.5)
    whole = permutation_test(x, y, 199, 5)
    monkeypatch.setattr(energy, "CHUNK", 42 * 7)
    assert permutation_test(x, y, 199, 5) == whole


def test_coefficient_by_hand_and_whatever_the_window_size() -> None:
    def coefficient(x: Tensor, y: Tensor) -> float:
        return PairwiseDistances(distances(x, x), distances(x, y), distances(y, y)).energy_coefficient

    assert coefficient(column(0, 2), column(4, 4)) == pytest.approx((6 - 2 - 0) / 6)  # between 3, within 2 and 0
    assert coefficient(column(0), column(5, 6)) == 0.0  # one prompt has no spread
    far = cloud(1, 400, shift=1.5)
    small = np.mean([coefficient(cloud(i, 8), far) for i in range(2, 200)])
    assert small == pytest.approx(coefficient(cloud(0, 400), far), abs=0.01)


def test_only_held_rows_play_the_window() -> None:
    x, y = cloud(0, 3), cloud(1, 7)
    held = torch.tensor([1, 4, 6])
    pairs = PairwiseDistances(distances(x, x), distances(x, y), distances(y, y))
    drawn = draw_windows(3, 6, 20, 4)
    pooled = torch.cat([x, y[held]]).tolist()
    fixed = [row.tolist() for i, row in enumerate(y) if i not in held.tolist()]
    for rows, value in zip(drawn, pairs.relabelled(held, drawn), strict=True):
        others = [pooled[i] for i in range(6) if i not in rows] + fixed
        assert value == pytest.approx(plain_energy([pooled[i] for i in rows], others), abs=1e-6)


def test_draws_in_slices_are_draws_without_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.detect_drift.permutation.slices", partial(slices, size=7))
    drawn = draw_windows(5, 9, 4000, 3)
    assert drawn[0].tolist() == [0, 1, 2, 3, 4]
    assert all(len(set(rows)) == 5 for rows in drawn.tolist())
    assert np.bincount(drawn[1:].ravel()) / 4000 == pytest.approx(np.full(9, 5 / 9), abs=0.03)
    assert draw_windows(5, 40_000, 3, 3).max() < 40_000


def test_rank_sums_by_hand() -> None:
    drawn = np.array([[0, 1], [2, 3]])
    found = rank_sums(np.array([9.0, 2.0, 2.0, -1.0]), drawn)  # shares as odd: 1/4, 3/4, 3/4, 1
    assert found == pytest.approx([-math.log(1 / 4) - math.log(3 / 4), -math.log(3 / 4)])


def test_several_statistics_together_keep_the_level() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        first, other = rng.normal(size=(2, 100))
        found.append(combine([p_values(first, 0.0), p_values(0.5 * first + other, 0.0)])[0])
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.015)  # three standard errors
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.04)


def test_one_strong_statistic_is_not_drowned_by_a_silent_one() -> None:
    loud, silent = np.r_[99.0, np.arange(99)], np.zeros(100)
    each = [p_values(loud, 0.0), p_values(silent, 0.0)]
    assert [p[0] for p in each] == [0.01, 1.0]
    assert combine(each)[0] == 0.01


def test_weak_evidence_that_points_the_same_way_adds_up() -> None:
    rng = np.random.default_rng(0)
    one, other = (np.r_[1.6, rng.normal(size=999)] for _ in range(2))  # each p about .05
    each = [p_values(one, 0.0), p_values(other, 0.0)]
    assert combine(each)[0] < min(p[0] for p in each) < 0.06


def test_smallest_attainable_p_value() -> None:
    assert smallest_p(8, 520, 999) == 0.001
    assert smallest_p(2, 4, 999) == pytest.approx(1 / 6)  # four over two relabellings


def test_twins_in_a_row_are_noticed_and_shuffled_ones_are_not() -> None:
    twins = cloud(0, 16).repeat_interleave(2, dim=0) + 1e-3
    assert order_test(twins, 199, 0) == 1 / 200
    shuffled = twins[torch.from_numpy(np.random.default_rng(1).permutation(32))]
    assert order_test(shuffled, 199, 0) > 0.05
    report = detect_drift(texts(32), cloud(5, 32), tasks(near=cloud(1, 80)))
    assert report.order_p is not None
    warned = detect_drift([f"question number {i:02}" for i in range(32)], twins, tasks(near=cloud(1, 80)))
    assert any("neighbouring prompts resemble each other" in caveat for caveat in warned.caveats)


def test_closest_mixture_finds_its_shares_and_refuses_what_is_unknown() -> None:
    known = tasks(a=cloud(0, 200, shift=4), b=cloud(1, 200, shift=-4), c=cloud(2, 200, shift=0.0))
    shares, p_value = explain_by_mixture(known, torch.cat([cloud(3, 45, shift=4), cloud(4, 15, shift=-4)]), 199, 0)
    assert shares["a"] == pytest.approx(0.75, abs=0.1)
    assert shares["b"] == pytest.approx(0.25, abs=0.1)
    assert sum(shares.values()) == pytest.approx(1)
    assert p_value > 0.05
    unknown = torch.nn.functional.normalize(cloud(5, 60) + torch.eye(8)[1] * 2, dim=1)
    assert explain_by_mixture(known, unknown, 199, 0)[1] == 1 / 200


def test_typicality_is_uniform_for_the_task_and_small_for_an_outlier() -> None:
    pairs = [(Reference(cloud(2 * i, 100, shift=3)), cloud(2 * i + 1, 50, shift=3)) for i in range(40)]

    def typicality(reference: Reference, window: Tensor) -> np.ndarray:
        return reference.typicality(reference.remoteness(distances(window, reference.embeddings)))

    usual = np.concatenate([typicality(reference, window) for reference, window in pairs])
    assert np.mean(usual <= 0.2) == pytest.approx(0.2, abs=0.03)  # three standard errors of 40 references
    reference = pairs[0][0]
    assert typicality(reference, cloud(3, 5, shift=-9)).max() < 0.05


def test_what_another_model_said_is_not_compared_with() -> None:
    signals = torch.rand(8, 2)
    mine, theirs = (Reference(cloud(1, 8), signals=signals, judged_by=judge) for judge in ("mine", "theirs"))
    known = KnownTasks({"a": mine, "b": theirs, "c": Reference(cloud(2, 8))}, ("a",)).heard_from("mine")
    assert known.references["a"].signals is signals
    assert [known.references[name].signals for name in "bc"] == [None, None]
    assert known.current == ("a",)


def test_outcomes_of_another_model_say_nothing_of_this_one() -> None:
    right = torch.ones(8, dtype=torch.bool)
    own = Reference(cloud(1, 8), correct=right)  # came with the prompts
    known = KnownTasks({"own": own, "theirs": replace(own, judged_by="theirs"), "mine": replace(own, judged_by="mine")})
    for model, compared in (("mine", ["own", "mine"]), (None, ["own"]), ("theirs", ["own", "theirs"])):
        heard = known.heard_from(model).references
        assert [name for name in known.names if heard[name].correct is not None] == compared
