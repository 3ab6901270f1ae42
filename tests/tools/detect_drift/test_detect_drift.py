"""The energy test by hand and by brute force, the verdicts on made-up embeddings, and the cached references."""

import itertools
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cao.errors import InputError
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.tasks import get_task
from cao.tasks.prompt_file import Asked
from cao.tasks.prompt_text import distinct, is_foreign
from cao.tasks.splits import part
from tools.detect_drift import detect_drift, energy
from tools.detect_drift.energy import PairwiseDistances, distances
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.mixture import explain_by_mixture
from tools.detect_drift.order import order_test
from tools.detect_drift.permutation import combine, draw_windows, p_values, slices, smallest_p
from tools.detect_drift.reference import IN_DOMAIN, REFERENCE_PROMPTS, SHIPPED, draw_prompts, group_hashes, known_tasks
from tools.detect_drift.reference_file import read_info, read_reference
from tools.detect_drift.two_sample import rank_sums
from tools.detect_drift.wording import NOT_IDENTIFIABLE


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


def tasks(current: tuple[str, ...] = (), **references: Tensor) -> KnownTasks:
    return KnownTasks({name: Reference(rows) for name, rows in references.items()}, current)


def cloud(seed: int, n: int, shift: float = 0.0, channels: int = 8) -> Tensor:
    points = torch.randn(n, channels, generator=torch.Generator().manual_seed(seed))
    points[:, 0] += shift
    return torch.nn.functional.normalize(points, dim=1)


def texts(n: int) -> list[str]:
    return [f"question number {i}" for i in range(n)]


# --- the kernel


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


# --- the verdict


def test_drift_needs_every_current_task_rejected() -> None:
    window = cloud(0, 20)
    near, far, other = cloud(1, 80), cloud(2, 80, shift=3), cloud(3, 80, shift=-3)
    inside = detect_drift(texts(20), window, tasks(far=far, near=near))
    assert (inside.drifted, inside.kind, inside.nearest_task) == (False, "none", "near")
    assert inside.p_value == inside.known["near"].p_value
    assert inside.known["far"].p_value == 0.001
    assert inside.not_rejected == ("near",)
    assert inside.score == inside.known["near"].effect < 0.05 < inside.known["far"].effect
    outside = detect_drift(texts(20), window, tasks(far=far, other=other))
    assert (outside.drifted, outside.kind, outside.p_value) == (True, "domain_transfer", 0.001)
    assert outside.none_of_these
    assert outside.not_rejected == ()


def test_a_known_task_that_is_not_current_makes_the_drift_covariate() -> None:
    known = tasks(("far",), far=cloud(2, 80, shift=3), near=cloud(1, 80))
    moved = detect_drift(texts(20), cloud(0, 20), known)
    assert (moved.kind, moved.drifted, moved.nearest_task, moved.not_rejected) == ("covariate", True, "near", ("near",))
    assert "to near, which is known" in moved.sentence
    stayed = detect_drift(texts(20), cloud(4, 20, shift=3), known)
    assert (stayed.kind, stayed.nearest_task) == ("none", "far")


def test_the_nearest_task_is_that_of_the_smallest_effect_whatever_is_expected() -> None:
    """The classifier's favourite was called nearest beside smaller effects, and with a probability of 3 %."""
    a, b, other = cloud(0, 200), cloud(1, 200, shift=0.25), cloud(2, 200, shift=4)
    other_than_expected = 0
    for seed in range(20):
        report = detect_drift(texts(12), cloud(9000 + seed, 12, shift=0.12), tasks(("a",), a=a, b=b, other=other))
        effects = {name: it.effect for name, it in report.known.items()}
        assert report.nearest_task is not None
        assert report.score == effects[report.nearest_task] == min(effects.values())
        told = f"nearest is {report.nearest_task} (effect size {report.score:.2f} of 1)"
        assert told in report.sentence or report.kind != "none"
        assert "probability" not in report.sentence
        if (report.kind, report.nearest_task) == ("none", "b"):
            other_than_expected += 1
            assert report.sentence.endswith(f", then a ({effects['a']:.2f})")
    assert other_than_expected


def test_a_mixture_of_known_tasks_is_covariate_and_names_its_shares() -> None:
    known = tasks(("a",), a=cloud(0, 200, shift=3), b=cloud(1, 200, shift=-3))
    window = torch.cat([cloud(2, 24, shift=3), cloud(3, 8, shift=-3)])
    report = detect_drift(texts(32), window, known)
    assert (report.kind, report.not_rejected) == ("covariate", ())
    assert report.shares["b"] == pytest.approx(0.25, abs=0.12)
    assert "mixture of known tasks" in report.sentence
    assert (report.known["a"].p_mixture or 1) <= 0.05


def test_signals_drift_where_prompts_do_not() -> None:
    prompts, window, near = texts(40), cloud(0, 40), cloud(1, 200)
    signals = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    known = KnownTasks({"near": Reference(near, signals), "far": Reference(cloud(2, 80, shift=3))}, ("near",))
    silent = detect_drift(prompts, window, known, signals=signals[:40].flip(0))
    assert (silent.kind, silent.known["far"].p_signals) == ("none", None)
    moved = detect_drift(prompts, window, known, signals=signals[:40] + 2)
    assert (moved.drifted, moved.known["near"].p_signals) == (True, 0.001)
    assert (moved.known["near"].p_energy or 0) > 0.05
    assert moved.kind == "covariate"
    assert "option signals" in moved.sentence


def test_concept_drift_needs_labels() -> None:
    known = KnownTasks({"near": Reference(cloud(1, 80), correct=torch.arange(80) % 4 > 0)})  # 75 % right
    prompts, window = texts(40), cloud(0, 40)
    unlabelled = detect_drift(prompts, window, known)
    assert unlabelled.kind == "none"
    assert NOT_IDENTIFIABLE in unlabelled.caveats
    wrong = detect_drift(prompts, window, known, correct=[i % 4 == 0 for i in range(40)])
    assert (wrong.kind, wrong.drifted) == ("concept", True)
    assert wrong.feedback is not None
    assert (wrong.feedback.correct, wrong.feedback.answered, wrong.feedback.task) == (10, 40, "near")
    assert wrong.p_value == pytest.approx(2 * wrong.feedback.p_value)
    assert NOT_IDENTIFIABLE not in wrong.caveats
    usual = detect_drift(prompts, window, known, correct=[i % 4 > 0 for i in range(40)])
    assert usual.kind == "none"


def test_report_does_not_depend_on_the_order_of_prompts_or_tasks() -> None:
    prompts, window = texts(20), cloud(0, 20)
    near, far = cloud(1, 80, shift=0.4), cloud(2, 80, shift=3)
    both = detect_drift(prompts, window, tasks(near=near, far=far), seed=3)
    again = detect_drift(prompts[::-1], window.flip(0), tasks(far=far, near=near), seed=3)
    assert again.known == both.known
    assert again.typicality == both.typicality[::-1]
    assert (again.p_value, again.kind, again.sentence) == (both.p_value, both.kind, both.sentence)


def test_rounding_of_the_encoder_does_not_change_the_report() -> None:
    known = tasks(near=cloud(1, 80, shift=0.4), far=cloud(2, 80, shift=3))
    plain = detect_drift(texts(20), cloud(0, 20), known)
    shaken = detect_drift(texts(20), cloud(0, 20) + 1e-7 * cloud(9, 20), known)
    assert [it.p_value for it in shaken.known.values()] == [it.p_value for it in plain.known.values()]
    assert shaken.typicality == plain.typicality


def test_repeats_and_blanks_are_left_out_and_reported() -> None:
    prompts = [*texts(12), "Question  NUMBER 3 ", "question number 3", "", " \n"]
    window = torch.cat([cloud(0, 12), cloud(9, 4, shift=-9)])
    report = detect_drift(prompts, window, tasks(near=cloud(1, 80)))
    clean = detect_drift(texts(12), window[:12], tasks(near=cloud(1, 80)))
    assert (report.n, report.p_value, report.score) == (12, clean.p_value, clean.score)
    assert report.duplicate_rate == 2 / 16
    assert report.typicality == (*clean.typicality, None, None, None, None)
    assert any("2 of 16 prompts are blank" in caveat for caveat in report.caveats)
    assert any("2 of 16 prompts (12%) repeat" in caveat for caveat in report.caveats)
    assert clean.caveats == (NOT_IDENTIFIABLE,)


def test_prompts_that_the_encoder_does_not_cover_name_no_task() -> None:
    arabic, near = [f"ما هي عاصمة البلد رقم {i}" for i in range(12)], tasks(near=cloud(1, 80))
    report = detect_drift(arabic, cloud(0, 12, shift=9), near)
    assert (report.kind, report.nearest_task, report.drifted) == ("not_covered", None, True)
    assert any("does not cover the script of 12 of 12" in caveat for caveat in report.caveats)
    few = detect_drift([*arabic[:3], *texts(9)], cloud(0, 12), near)
    assert (few.kind, few.nearest_task) == ("none", "near")
    assert any("3 of 12" in caveat for caveat in few.caveats)
    sums = detect_drift([f"{i} + {i} = ?" for i in range(12)], cloud(0, 12), near)
    assert (sums.kind, sums.caveats) == ("none", (NOT_IDENTIFIABLE,))


def test_of_a_large_window_a_sample_is_encoded_and_tested_and_all_labels_count() -> None:
    class Counting(Encoder):
        count = 0

        def overlong(self, prompts: list[str]) -> int:
            return 0

        def embed(self, prompts: list[str], batch_size: int = 8) -> Tensor:
            self.count += len(prompts)
            rows = [cloud(7000 + int(prompt.split()[1]), 1, 1.5 * prompt.startswith("new")) for prompt in prompts]
            return torch.cat(rows)

    n, encoder = 3000, Counting(Path())
    prompts = [f"old {i}" for i in range(n)]
    known = KnownTasks({"red": Reference(cloud(1, 300), correct=torch.arange(300) % 2 == 0)})
    report = detect_drift(prompts, None, known, encoder=encoder, correct=[i % 2 == 0 for i in range(n)], seed=3)
    assert (encoder.count, report.n, report.drawn_from, report.kind) == (512, 512, n, "none")
    assert report.feedback is not None
    assert (report.feedback.answered, report.feedback.correct) == (n, n // 2)
    assert sum(value is not None for value in report.typicality) == 512
    assert any("512 of 3000 distinct prompts were drawn at random and tested" in told for told in report.caveats)
    assert any("to within 3.9 points (95 %)" in told for told in report.caveats)
    mixed = [f"new {i}" if i % 5 == 0 else prompt for i, prompt in enumerate(prompts)]
    assert detect_drift(mixed, None, known, encoder=encoder).drifted
    few = detect_drift(prompts[:500] + prompts[:20], None, known, encoder=encoder)
    assert (few.n, few.drawn_from, few.duplicate_rate) == (500, None, 20 / 520)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_too_few_prompts_get_no_verdict_but_what_would_be_enough(n: int) -> None:
    prompts = [*texts(n), *texts(n), *texts(n)]
    known = tasks(near=cloud(1, 80), far=cloud(2, 80, shift=9))
    report = detect_drift(prompts, cloud(0, 3 * n, shift=9), known)
    assert (report.kind, report.p_value, report.drifted, report.n) == ("insufficient", 1.0, False, n)
    assert any("8" in caveat and "enough" in caveat for caveat in report.caveats)
    assert all(it.p_value is None for it in report.known.values())
    assert report.nearest_task == ("far" if n else None)
    assert "no verdict" in report.sentence


def test_too_few_permutations_or_references_for_the_level_are_reported() -> None:
    def caveats(permutations: int, size: int = 80) -> str:
        known = tasks(far=cloud(1, size, shift=9))
        return " ".join(detect_drift(texts(20), cloud(0, 20), known, permutations=permutations).caveats)

    assert "no drift can be found" in caveats(9)
    assert "0.01, coarse" in caveats(99)
    assert caveats(999) == NOT_IDENTIFIABLE
    assert "the reference far holds only 40 prompts" in caveats(999, 40)


@pytest.mark.parametrize(
    "bad", [{"alpha": 0.0}, {"alpha": 1.0}, {"alpha": math.nan}, {"seed": -1}, {"permutations": 0}]
)
def test_impossible_numbers_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError):
        detect_drift(texts(9), cloud(0, 9), tasks(a=cloud(1, 9)), **bad)  # type: ignore[arg-type]


def test_nothing_to_compare_with_and_broken_embeddings_are_refused() -> None:
    with pytest.raises(InputError, match="reference"):
        tasks()
    with pytest.raises(InputError, match="'b'"):
        tasks(("b",), a=cloud(0, 9))
    with pytest.raises(ValueError, match="'known'"):
        tasks(known=cloud(1, 9) * math.nan)
    with pytest.raises(ValueError, match="window"):
        detect_drift(texts(9), cloud(0, 9) * math.inf, tasks(known=cloud(1, 9)))


@given(st.lists(st.text(max_size=3), max_size=14))
@settings(max_examples=60)
def test_any_window_gets_a_finite_report(prompts: list[str]) -> None:
    window = cloud(0, max(len(prompts), 1))[: len(prompts)]
    report = detect_drift(prompts, window, tasks(a=cloud(1, 9), b=cloud(2, 9)), permutations=19)
    assert math.isfinite(report.score)
    assert 1 / 20 <= report.p_value <= 1
    assert report.n == len(distinct(prompts)) <= len(prompts)
    assert (report.kind == "insufficient") == (report.n < 8)
    assert len(report.typicality) == len(prompts)
    assert report.sentence


# --- with the real encoder and data


def draw(task: str, n: int) -> list[str]:
    """Support prompts, one of each group."""
    one_of_each = {example.group or example.id: example.prompt for example in part(get_task(task), "support")}
    found = list(one_of_each.values())
    return [found[i] for i in np.random.default_rng(0).choice(len(found), n, replace=False)]


@pytest.mark.integration
def test_mathematics_drifts_from_the_known_tasks_and_their_own_questions_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    encoder = Encoder(minilm_folder())
    known = known_tasks((), encoder)
    assert known.names == IN_DOMAIN
    alien = detect_drift(draw("gsm8k", 32), None, known, encoder=encoder)
    assert alien.kind == "domain_transfer"
    assert alien.p_value <= 0.005
    own = [detect_drift(draw(name, 32), None, known, encoder=encoder) for name in ("piqa", "boolq", "winogrande")]
    assert [report.nearest_task for report in own] == ["piqa", "boolq", "winogrande"]
    assert sum(report.drifted for report in own) <= 1  # each is a false alarm with probability .05
    assert min(report.p_value for report in own) > 0.005
    mixed = detect_drift([*draw("piqa", 24), *draw("boolq", 8)], None, known, encoder=encoder)
    assert mixed.kind == "covariate"
    assert mixed.shares["boolq"] == pytest.approx(0.25, abs=0.1)


@pytest.mark.integration
def test_shipped_references_hold_no_question_of_another_part_and_come_from_this_encoder() -> None:
    encoder = Encoder(minilm_folder())
    for name in IN_DOMAIN:
        path = SHIPPED / f"{name}.safetensors"
        reference, info = read_reference(path, encoder.sha256), read_info(path)
        train = [Asked(example.prompt, example) for example in part(get_task(name), "train")]
        assert set(info.groups) <= set(group_hashes(train))
        assert 256 <= len(reference.embeddings) == info.prompts == len(set(info.groups)) <= REFERENCE_PROMPTS
        drawn = draw_prompts(name)
        rows = encoder.embed([one.prompt for one in drawn[:4]])
        assert torch.allclose(reference.embeddings[:4], rows, atol=1e-3)
        assert reference.signals is not None
        assert reference.correct is not None


@pytest.mark.integration
def test_prompts_that_the_encoder_cuts_are_reported() -> None:
    known = tasks(known=cloud(0, 9, channels=384))
    report = detect_drift([*texts(7), "word " * 400], None, known, encoder=Encoder(minilm_folder()))
    assert any("1 of 8 prompts are longer than 384 tokens" in caveat for caveat in report.caveats)


# --- what the encoder does not see


@pytest.mark.parametrize(
    ("prompt", "foreign"),
    [
        ("Which of these animals can fly?", False),
        ("12 + 30", False),
        ("Ça va, naïve façade?", False),
        ("???", True),
        ("🎉🎉 🎉", True),
        ("∑∑ ∏", True),
        ("Please answer this question carefully: 今天的天气怎么样", True),
        ("The word 猫 means cat in this language", False),
        ("ما هي عاصمة مصر", True),
    ],
)
def test_foreign_is_what_the_encoder_was_not_trained_on(prompt: str, foreign: bool) -> None:
    assert is_foreign(prompt) == foreign


def test_prompts_that_the_encoder_cannot_tell_apart_count_once() -> None:
    hidden = [f"one prompt{chr(0x200B) * k}" for k in range(16)]
    report = detect_drift(hidden, cloud(0, 16), tasks(a=cloud(1, 80)))
    assert (report.kind, report.n, report.duplicate_rate) == ("insufficient", 1, 15 / 16)
    same = cloud(0, 1).repeat(16, 1)  # texts that differ behind the encoder's last token
    report = detect_drift(texts(16), same, tasks(a=cloud(1, 80)))
    assert (report.kind, report.n, report.duplicate_rate) == ("insufficient", 1, 15 / 16)


def test_feedback_is_compared_with_the_expected_task_unless_the_prompts_moved() -> None:
    near, far = cloud(1, 200), cloud(2, 200, shift=0.8)
    known = KnownTasks(
        {
            "near": Reference(near, correct=torch.arange(200) % 2 == 0),
            "far": Reference(far, correct=torch.zeros(200, dtype=torch.bool)),
        },
        ("near",),
    )
    for seed in range(40):
        window = cloud(100 + seed, 16, shift=0.25)
        report = detect_drift(texts(16), window, known, correct=[True, False] * 8)
        assert report.feedback is not None
        if not report.drifted:
            assert report.feedback.task == "near"
            assert "near" in report.not_rejected
            assert "cannot be told from near (" in report.sentence
