"""What a generator is trained on: a preset, and tasks with their prompts, questions and checkpoints."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from cao.configuration import Amount, Count, CountOrNone
from cao.inference.choice_loss import ChoiceRow
from cao.model.packed_forward import Row
from cao.types import Record
from tools.generate_lora.generator import TrainedGenerator
from tools.generate_lora.statistics import Statistics, StatisticsMode

Share = Annotated[float, Field(ge=0, le=1)]


class GeneratorPreset(Record):
    """How a generator is trained.

    Attributes:
        steps: optimiser steps.
        tasks: tasks a step, each with its own prompts.
        rate: learning rate of the decoder; falls to zero as a half cosine.
        centre_rate: learning rate of the element-wise centre, 0 to leave it at the checkpoints' mean.
        reconstruction: weight of Eq. 1.
        behaviour_from: the step from which the loss through the model is added; ``steps`` for never.
        answers: weight of the gold answers' cross-entropy in that loss.
        choices: weight of the log-loss of choosing the gold answer among its question's choices.
        batch: questions of one task in a step with the loss through the model.
        noise: standard deviation of the noise on the conditioning, as a share of its own.
        few: share of conditioning tensors that are made of fewer than N prompts, used again in turn.
        unprompted: share of conditioning tensors without any prompt.
        contrast: weight of the margin by which a task's own prompts shall serve it better than another task's.
        margin: nats of that margin; at it and beyond, the term is zero.
        contrast_every: steps between two with that term.
    """

    steps: Count
    tasks: Count = 4
    rate: Amount = 1e-3
    centre_rate: Amount = 0.0
    reconstruction: Amount = 1.0
    behaviour_from: CountOrNone = 0
    answers: Amount = 1.0
    choices: Amount = 0.0
    batch: Count = 16
    noise: Amount = 0.05
    few: Amount = 0.25
    unprompted: Share = 0.0
    contrast: Amount = 0.0
    margin: Amount = 0.05
    contrast_every: Count = 2

    @property
    def through_model(self) -> int:
        """Steps with the loss through the model."""
        return max(0, self.steps - self.behaviour_from)


@dataclass(frozen=True)
class Source:
    """A task that a generator is trained on.

    Attributes:
        name: the task's.
        states: token states of each training prompt, (l_i, C) float16, without padding.
        rows: training questions with their gold answers, sorted by length; read where ``choices`` weighs nothing.
        residuals: (K, layers, D_l) bfloat16 checkpoints; K = 0 where Eq. 1 weighs nothing.
        questions: training questions with all of their choices, sorted by length; read where ``choices`` weighs
            something.
    """

    name: str
    states: list[Tensor]
    rows: list[Row]
    residuals: Tensor
    questions: list[ChoiceRow] = field(default_factory=list)


def fit(mode: StatisticsMode, sources: Sequence[Source], device: str | torch.device = "cpu") -> Statistics:
    """Return the statistics of the sources' checkpoints, each source weighing the same."""
    return Statistics.fit(mode, torch.stack([source.residuals.float().mean(0) for source in sources]).to(device))


def conditioning(states: Sequence[Tensor], shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return token states as one conditioning tensor, used again in turn where there are fewer than N.

    Args:
        states: prompts, (l_i, C) each.
        shape: (N, L, C).

    Returns:
        (N, L, C) float32, padding zero, and (N, L) bool.
    """
    tensor, mask = torch.zeros(shape), torch.zeros(shape[:2], dtype=torch.bool)
    for i in range(shape[0]):
        state = states[i % len(states)][: shape[1]]
        tensor[i, : len(state)] = state
        mask[i, : len(state)] = True
    return tensor, mask


def draw(
    source: Source, generator: TrainedGenerator, preset: GeneratorPreset, rng: random.Random
) -> tuple[Tensor, Tensor]:
    """Return one conditioning tensor of a source: other prompts each time, some of few prompts or none, with noise."""
    shape = generator.decoder.ladder.shapes[0]
    if preset.unprompted and rng.random() < preset.unprompted:
        return torch.zeros(shape), torch.zeros(shape[:2], dtype=torch.bool)
    count = min(shape[0], len(source.states))
    if rng.random() < preset.few:
        count = rng.randint(1, count)
    tensor, mask = conditioning(rng.sample(source.states, count), shape)
    if preset.noise:
        torch_rng = torch.Generator().manual_seed(rng.getrandbits(62))
        spread = tensor[mask].std()
        tensor = tensor + preset.noise * spread * torch.randn(tensor.shape, generator=torch_rng)
    return tensor, mask
