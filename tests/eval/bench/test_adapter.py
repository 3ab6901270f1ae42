"""Making an adapter beside training one, and how operations are counted. No time is asserted."""

import math
from pathlib import Path

import pytest
import torch

from cao.errors import UnavailableError
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from eval.bench import adapter
from eval.bench.cost import Cheap, count
from tests.agent.tiny_pretrained import aligner_of, generator_of, layout_of
from tests.eval.bench.parts import PROMPTS, check
from tools.generate_lora.checkpoints import CheckpointPreset


def test_an_adapter_costs_less_than_training_one(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    layout = layout_of(tiny_lm)
    generator = generator_of(tiny_lm, torch.zeros(layout.layers, layout.length))
    cheap = Cheap(Encoder(minilm_folder()), generator, aligner_of(tiny_lm, generator, 1e-4), tiny_lm, PROMPTS, PROMPTS)
    made = adapter.recipe(
        tiny_lm, "arc_easy", tmp_path, cheap.encoder, CheckpointPreset(warm_steps=8, batch=2, samples=40)
    )
    made.consolidation.__dict__["layout"] = layout  # the tiny model is not the preset's
    result = adapter.bench(cheap, made, repetitions=1)
    check(result)
    assert (result.recipe.steps, result.recipe.batch) == (58, 2)
    assert result.measured_steps == 8
    flops = result.flops
    stages = [flops[name] for name in ("encode", "generate", "vector", "align")]
    assert all(value > 0 for value in stages)
    assert flops["all"] == sum(stages)
    assert result.flop_ratio == pytest.approx(flops["training"] / flops["all"], abs=0.06)
    assert "multiplied out from 8 steps" in dict(result.lines())["training, 58 steps of 2"]


def test_a_model_without_trained_parts_is_unavailable(tiny_lm: LanguageModel) -> None:
    with pytest.raises(UnavailableError, match=r"agent\.consolidate"):
        adapter.cheap_way(tiny_lm, "arc_easy", PROMPTS, PROMPTS)


def test_operations_are_counted() -> None:
    a, b = torch.randn(7, 5), torch.randn(5, 3)
    flops, operators = count(lambda: [a @ b for _ in range(4)])
    assert flops == 4 * 2 * 7 * 5 * 3
    assert operators == ["aten.mm"]
    q = torch.randn(1, 2, 6, 8)
    attention, _ = count(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    assert attention == 2 * (2 * 2 * 6 * 6 * 8)
    assert math.isclose(count(lambda: None)[0], 0)
