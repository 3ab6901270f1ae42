"""The aligners' presets: the sizes of a VAE and the schedule of its training."""

from typing import Literal

from cao.configuration import Amount, Count
from cao.types import Record
from tools.align_lora.fusion_vae import KL_WEIGHT, POSITIONS, STRIDE, FusionShape, chunk_count

ChunkTarget = Literal["generated", "checkpoint"]
"""What Eq. 3 reconstructs: the generated weights themselves, as the paper has it, or the task's checkpoint."""


class AlignerPreset(Record):
    """The sizes and the schedule of one training.

    Attributes:
        widths: channels of the encoder's convolutions.
        latent: width of z.
        projected: width that the task vector is projected to.
        code: width of a chunk's code.
        meta_epochs: updates of the meta-parameters.
        inner_rate: of the one inner gradient step.
        meta_rate: Adam's.
        kl: λ at the end of training.
        chunks_per_step: chunks of an adapter that a loss is taken on.
        vector_prompts: how many prompts a task vector is made from at most.
        target: what the output is compared with.
    """

    widths: tuple[Count, ...]
    latent: Count
    projected: Count
    code: Count
    meta_epochs: Count
    inner_rate: Amount
    meta_rate: Amount
    kl: Amount
    chunks_per_step: Count
    vector_prompts: Count
    target: ChunkTarget = "checkpoint"

    def shape(self, vector: int, total: int) -> FusionShape:
        """Return the VAE's sizes for task vectors of width ``vector`` and adapters of ``total`` weights."""
        chunks = chunk_count(total, POSITIONS * STRIDE ** len(self.widths))
        return FusionShape(self.widths, self.latent, vector, self.projected, chunks, self.code)


class GainPreset(Record):
    """The sizes and the schedule of a gain aligner's training.

    Attributes:
        hidden: width of the layers between.
        latent: width of z.
        steps: optimiser steps.
        tasks: tasks a step.
        batch: questions of a task in a step.
        rate: AdamW's.
        kl: λ at the end of training; the KL is in nats, summed over z.
        vector_prompts: how many prompts a condition is made from at most.
    """

    hidden: Count = 64
    latent: Count = 16
    steps: Count = 120
    tasks: Count = 2
    batch: Count = 8
    rate: Amount = 1e-3
    kl: Amount = KL_WEIGHT
    vector_prompts: Count = 8


PAPER = AlignerPreset(
    widths=(32, 64, 128, 256, 512),
    latent=256,
    projected=512,
    code=64,
    meta_epochs=4000,
    inner_rate=1e-3,
    meta_rate=1e-4,
    kl=KL_WEIGHT,
    chunks_per_step=16,
    vector_prompts=32,
)
"""Source: CAO-LLM F.2; the widths of z and of a chunk's code are not said there."""
EMBEDDED = AlignerPreset(
    widths=(4, 8, 16, 32, 64),
    latent=32,
    projected=64,
    code=16,
    meta_epochs=800,
    inner_rate=1e-3,
    meta_rate=1e-3,
    kl=KL_WEIGHT,
    chunks_per_step=16,
    vector_prompts=4,
)
