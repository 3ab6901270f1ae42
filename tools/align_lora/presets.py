"""The aligner's presets: the Fusion VAE's sizes and the schedule of its training."""

from dataclasses import dataclass

from tools.align_lora.fusion_vae import KL_WEIGHT, POSITIONS, STRIDE, FusionShape, chunk_count


@dataclass(frozen=True)
class AlignerPreset:
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
    """

    widths: tuple[int, ...]
    latent: int
    projected: int
    code: int
    meta_epochs: int
    inner_rate: float
    meta_rate: float
    kl: float
    chunks_per_step: int
    vector_prompts: int

    def shape(self, vector: int, total: int) -> FusionShape:
        """Return the VAE's sizes for task vectors of width ``vector`` and adapters of ``total`` weights."""
        chunks = chunk_count(total, POSITIONS * STRIDE ** len(self.widths))
        return FusionShape(self.widths, self.latent, vector, self.projected, chunks, self.code)


PAPER = AlignerPreset((32, 64, 128, 256, 512), 256, 512, 64, 4000, 1e-3, 1e-4, KL_WEIGHT, 16, 32)
"""Source: CAO-LLM F.2; the widths of z and of a chunk's code are not said there."""
EMBEDDED = AlignerPreset((4, 8, 16, 32, 64), 32, 64, 16, 800, 1e-3, 1e-3, KL_WEIGHT, 16, 4)
