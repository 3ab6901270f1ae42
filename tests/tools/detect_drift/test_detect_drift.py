"""The verdicts on made-up embeddings, and what is refused."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cao.errors import InputError
from cao.model.encoder import Encoder
from cao.tasks.prompt_text import distinct
from tests.tools.detect_drift.clouds import cloud, tasks, texts
from tools.detect_drift import detect_drift
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.wording import NOT_IDENTIFIABLE


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
