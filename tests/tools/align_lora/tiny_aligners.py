"""Adapters with made-up residuals, and an aligner that is trained on them in a second."""

from dataclasses import replace

import torch
from torch import Tensor

from cao.model.adapters import LoraWeights, initial_lora
from tests.tools.tiny_training import TINY_ALIGNER
from tools.align_lora.training import SourceTask, train_aligner
from tools.generate_lora.tokens import TokenLayout, flatten, unflatten

BASE, GENERATOR = "b" * 64, "c" * 64
SHAPES = {
    f"base_model.model.model.layers.{i}.{name}": shape
    for i in range(3)
    for name, shape in (("self_attn.q_proj", (32, 32)), ("mlp.gate_proj", (64, 32)))
}
LAYOUT = TokenLayout.of(SHAPES, 4, 8, (8, 8))
INITIAL = initial_lora(SHAPES, ("q_proj", "gate_proj"), 4, 8, 0, BASE)
WIDTH = 6
QUICK = TINY_ALIGNER
SCALES = torch.tensor([0.01, 0.1, 1.0])[:, None]


def source(name: str, seed: int, batches: int = 3) -> SourceTask:
    """A task whose generated residuals all miss its checkpoint in the same way, by half of the layer's scale."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(batches, LAYOUT.layers, LAYOUT.length, generator=generator)
    vectors = 100 + torch.randn(batches, WIDTH, generator=generator)
    miss = torch.tensor([1.0, 0.5, -0.5, 0.0]).repeat(LAYOUT.length // 4)
    return SourceTask(name, rows * SCALES, vectors, (rows.mean(0) + miss) * SCALES)


TASKS = [source("one", 1), source("two", 2), source("three", 3)]


def train(tasks: list[SourceTask] = TASKS, seed: int = 5, **changes):
    options = {key: changes.pop(key) for key in ("progress", "checkpoint", "checkpoint_every_s") if key in changes}
    preset = QUICK.model_copy(update=changes)
    return train_aligner(*(tasks, LAYOUT, INITIAL), preset=preset, seed=seed, generator_sha256=GENERATOR, **options)


def adapter(residual: Tensor) -> LoraWeights:
    tensors = unflatten(flatten(INITIAL.tensors, LAYOUT) + residual, LAYOUT)
    return replace(INITIAL, tensors=tensors, provenance={"made_by": "test"})
