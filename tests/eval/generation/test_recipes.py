"""Which prompts adapters are made from."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from agent.train.generator.presets import PRESETS, REPORTED
from agent.train.generator.variants import variants
from cao.model.adapters import LoraWeights
from cao.model.cosines import gram
from cao.tasks import TASKS
from cao.tasks.splits import choose, part, split
from eval.generation.recipes import others
from eval.generation.workshop import Workshop, fused, shuffled
from tools.detect_drift.reference import IN_DOMAIN


@pytest.mark.parametrize("task", [*REPORTED, "sciq"])
def test_wrong_prompts_are_other_tasks_all_of_them_different(task: str) -> None:
    for n in range(1, len(REPORTED)):
        found = others(task, n)
        assert len({task, *found}) == n + 1
        assert set(found) <= set(REPORTED)


def test_the_arc_tasks_are_not_each_others_wrong_prompts() -> None:
    assert "arc_easy" not in others("arc_challenge", 3)
    assert "arc_challenge" not in others("arc_easy", 3)


@bounded(max_examples=50)
@given(st.lists(st.text("ab c", min_size=1), min_size=1, max_size=6), st.integers(0, 3))
def test_shuffled_prompts_hold_the_same_words_in_the_same_lengths(prompts: list[str], seed: int) -> None:
    found = shuffled(prompts, seed)
    assert [len(text.split()) for text in found] == [len(text.split()) for text in prompts]
    assert sorted(" ".join(found).split()) == sorted(" ".join(prompts).split())
    assert found == shuffled(prompts, seed)


def test_a_seed_chooses_what_a_run_of_that_seed_chooses() -> None:
    splits = split(TASKS["arc_easy"], support=32, reward=96, test=200, seed=0)
    drawn = choose(part(TASKS["arc_easy"], "support"), 32, "0:support")
    assert [example.id for example in drawn] == [example.id for example in splits.support]
    drawn = choose(part(TASKS["arc_easy"], "test"), 200, "0:test")
    assert [example.id for example in drawn] == [example.id for example in splits.test]


def adapter(seed: int, rank: int, alpha: int) -> LoraWeights:
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for module, out, into in (("layers.0.q", 6, 5), ("layers.0.o", 5, 6)):
        tensors[f"{module}.lora_A.weight"] = torch.randn(rank, into, generator=generator)
        tensors[f"{module}.lora_B.weight"] = torch.randn(out, rank, generator=generator)
    return LoraWeights(rank, alpha, ("q", "o"), tensors, "0" * 64, {})


def change(weights: LoraWeights, module: str) -> torch.Tensor:
    b, a = (weights.tensors[f"{module}.lora_{side}.weight"] for side in "BA")
    return weights.alpha / weights.rank * b @ a


def test_what_is_fused_changes_the_mean_of_what_adapters_change() -> None:
    several = [adapter(0, 2, 8), adapter(1, 3, 3), adapter(2, 1, 4)]
    mean = fused(several)
    for module in mean.modules():
        wanted = sum((change(each, module) for each in several), torch.zeros(())) / 3
        assert torch.allclose(change(mean, module), wanted, atol=1e-5)
    products = gram([several[0], fused([several[0]] * 3)])
    assert products == pytest.approx(products[0, 0])


def test_the_mean_is_of_the_generators_own_sources_or_of_the_papers_six_but_for_the_task() -> None:
    def averaged(preset: str, task: str) -> tuple[str, ...]:
        consolidation: Any = SimpleNamespace(preset=PRESETS[preset])
        return Workshop(consolidation).mean_sources(task, variants(PRESETS[preset])[0])

    assert averaged("embedded", "gsm8k") == PRESETS["embedded"].sources
    assert averaged("wide", "gsm8k") == tuple(IN_DOMAIN)
    assert {*averaged("wide", "piqa"), "piqa"} == {*IN_DOMAIN}
    assert "piqa" not in averaged("wide", "piqa")
