"""Text-to-LoRA style: an adapter depends on the description alone; training lowers the loss through the model."""

from dataclasses import replace

import pytest
import torch

from cao.model.adapters import LoraWeights
from eval.baselines.baseline import adapted, prepared
from eval.baselines.ground import Ground, Target
from eval.baselines.objective import Objective
from eval.baselines.text_to_lora import TextSettings, TextToLora
from tools.generate_lora.sources import GeneratorPreset

pytestmark = pytest.mark.slow

PRESET = GeneratorPreset(
    steps=20, tasks=2, rate=1e-2, centre_rate=1e-2, reconstruction=0.0, choices=1.0, batch=4, few=0.0, contrast=1.0
)
METHOD = TextToLora(TextSettings(preset=PRESET))


def adapter(ground: Ground, target: Target) -> LoraWeights:
    weights = adapted(METHOD, ground, prepared(METHOD, ground), target).weights
    assert weights is not None
    return weights


def test_the_description_alone_decides_and_training_lowers_the_loss(ground: Ground) -> None:
    target = ground.rehearsal("arc_easy")
    made = adapter(ground, target)
    others = replace(target, support=(), reward=(), train=())
    assert all(torch.equal(adapter(ground, others).tensors[name], value) for name, value in made.tensors.items())
    told = replace(target.task, description="Questions about the colours of old ships.")
    other = adapter(ground, replace(target, task=told))
    assert any(not torch.equal(other.tensors[name], value) for name, value in made.tensors.items())
    objective, lm = Objective(choices=1.0), ground.lm
    rows = objective.rows(lm, target.task, target.train, 64)
    losses = []
    for weights in (None, made):
        with lm.adapted(weights):
            losses.append(float(objective.loss(lm, rows, gradient=False)))
    assert losses[1] < losses[0]


def test_a_killed_training_goes_on_and_counts_about_what_it_read(ground: Ground) -> None:
    whole = prepared(METHOD, ground)
    [file] = ground.folder.glob("*.safetensors")
    file.unlink()

    def kill(label: str, done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared(METHOD, replace(ground, progress=kill), every_s=0.0)
    again = prepared(METHOD, ground)
    assert all(torch.equal(again.tensors[name], value) for name, value in whole.tensors.items())
    assert whole.spent.steps == again.spent.steps == 20
    assert whole.spent.tokens == pytest.approx(again.spent.tokens, rel=0.3)


def test_a_budget_decides_the_steps(ground: Ground) -> None:
    limited = TextToLora(TextSettings(preset=PRESET, tokens=6000))
    spent = prepared(limited, ground).spent
    assert spent.tokens == pytest.approx(6000, rel=0.4)
