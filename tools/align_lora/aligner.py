"""Trained aligners: a conditional VAE with the statistics that its inputs are standardised by.

``ChunkAligner`` decodes a correction to every weight, as the paper has it; ``GainAligner`` two numbers for each module.
On disk an aligner is one sealed file. The VAE's weights are bf16; the statistics stay float32, because a hidden state's
mean may be hundreds of its standard deviations, and bf16 would round the whole signal away.

Source: CAO-LLM §2.3, F.
"""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cao.errors import InputError
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.sealed import Header, write_sealed
from cao.types import Record
from tools.align_lora.fusion_vae import FusionShape, FusionVAE, cut_chunks, join_chunks
from tools.align_lora.gains import GainShape, GainVAE, features_of, moved
from tools.generate_lora.tokens import TokenLayout, flatten, unflatten

AlignTarget = Literal["generated", "checkpoint", "answers"]

VECTOR_LIMIT = 5.0
"""A standardised task vector is held within ± this: an unseen task may lie far outside of what was trained on."""
BLOCK = 64
"""Chunks that go through the VAE together: bounds the activations, whatever the adapter's length."""


class AlignerHeader(Record):
    """What an aligner is and belongs to.

    Attributes:
        target: what it was trained for: to reconstruct the ``generated`` weights themselves or the task's
            ``checkpoint``, or to answer the task's questions.
        base_sha256: the base model.
        layout_sha256: the token layout.
        generator_sha256: the generator whose weights it was trained on.
        vector_prompts: how many prompts a task vector is made from at most.
        provenance: how it was made, strings only.
    """

    target: AlignTarget
    base_sha256: str
    layout_sha256: str
    generator_sha256: str
    vector_prompts: int
    provenance: dict[str, str]


class AlignerFile(Header):
    """The header of an aligner's file."""

    what: ClassVar[str] = "an aligner"

    format: Literal[1] = 1
    shape: FusionShape | GainShape
    header: AlignerHeader


class TrainedAligner(nn.Module):
    """An aligner that is ready for use.

    Attributes:
        header: what it belongs to.
        layout: the order of an adapter's weights.
        initial: the recorded LoRA initialisation.
    """

    vae: FusionVAE | GainVAE
    mean: Tensor
    std: Tensor

    def __init__(
        self, header: AlignerHeader, layout: TokenLayout, initial: LoraWeights, *, mean: Tensor, std: Tensor
    ) -> None:
        """Put the parts together.

        Args:
            header: what it belongs to.
            layout: the order of an adapter's weights.
            initial: the recorded LoRA initialisation.
            mean: (v,) mean of the conditions.
            std: (v,) standard deviation of the conditions, above zero.
        """
        super().__init__()
        self.header, self.layout, self.initial = header, layout, initial
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, value.detach().float())

    @property
    def sha256(self) -> str:
        """Hash of what ``save`` writes: header and tensors as they are stored."""
        return self._described().digest(self._stored())

    @property
    def reads_base_state(self) -> bool:
        """Whether its condition has the base model's own mean state behind the task vector."""
        return isinstance(self.vae, GainVAE)

    def standardise(self, vector: Tensor) -> Tensor:
        """Return a condition in the units that the VAE was trained in.

        Args:
            vector: (v,).
        """
        return ((vector - self.mean) / self.std).clamp(-VECTOR_LIMIT, VECTOR_LIMIT)

    @torch.no_grad()
    def align(self, generated: LoraWeights, vector: Tensor) -> LoraWeights:
        """Return the aligned adapter, z = μ: one forward pass, no gradients, O(D).

        Args:
            generated: an adapter of this aligner's layout.
            vector: (v,) its condition on the target's prompts: the task vector, and for some the base model's state.

        Raises:
            InputError: another base model or layout, or values that are not finite.

        Source: CAO-LLM §2.3, F.
        """
        if generated.base_sha256 != self.header.base_sha256:
            raise InputError(
                f"the adapter was made for base model {generated.base_sha256[:12]}, "
                f"the aligner for {self.header.base_sha256[:12]}"
            )
        if (generated.rank, generated.alpha) != (self.layout.rank, self.layout.alpha):
            raise InputError(
                f"the adapter has rank {generated.rank} and alpha {generated.alpha}, "
                f"the aligner's layout {self.layout.rank} and {self.layout.alpha}"
            )
        if vector.shape != self.mean.shape:
            raise InputError(f"the task vector has shape {tuple(vector.shape)}, the aligner's {tuple(self.mean.shape)}")
        flat = flatten(generated.tensors, self.layout)
        if not bool(flat.isfinite().all() and vector.isfinite().all()):
            raise InputError("the adapter or its task vector holds values that are not finite: nothing was aligned")
        aligned = self._aligned(flat, self.standardise(vector.to(self.mean.device, torch.float32)))
        if not bool(aligned.isfinite().all()):
            raise InputError("the aligned weights are not finite: the adapter's values are too large")
        tensors = {name: matrix.clone() for name, matrix in unflatten(aligned, self.layout).items()}
        made = {"made_by": "align", "target": self.header.target, "aligner": self.sha256}
        made["start"] = adapter_sha256(generated)
        return LoraWeights(
            generated.rank,
            generated.alpha,
            generated.targets,
            tensors,
            self.header.base_sha256,
            {**generated.provenance, **made},
        )

    def save(self, path: Path) -> None:
        """Write the aligner to one safetensors file, in one step.

        Raises:
            ValueError: a weight is not finite; such an aligner is never written.
        """
        write_sealed(path, self._described(), self._stored())

    def _described(self) -> AlignerFile:
        return AlignerFile(shape=self.vae.shape, header=self.header)

    def _stored(self) -> dict[str, Tensor]:
        weights = {f"vae.{name}": value.to(torch.bfloat16) for name, value in self.vae.state_dict().items()}
        return weights | {"mean": self.mean, "std": self.std} | self._kept()

    @abstractmethod
    def _aligned(self, flat: Tensor, standard: Tensor) -> Tensor:
        """Return the aligned (layers, D_l) adapter of ``flat``, on the CPU, from the standardised condition."""

    @abstractmethod
    def _kept(self) -> dict[str, Tensor]:
        """Return what else a file holds, as it is stored."""


class ChunkAligner(TrainedAligner):
    """A Fusion VAE that decodes a correction to every weight, chunk by chunk.

    Source: CAO-LLM §2.3, F.2.
    """

    vae: FusionVAE
    scale: Tensor

    def __init__(
        self,
        vae: FusionVAE,
        header: AlignerHeader,
        layout: TokenLayout,
        initial: LoraWeights,
        *,
        scale: Tensor,
        mean: Tensor,
        std: Tensor,
    ) -> None:
        """Put the parts together.

        Args:
            vae: the trained Fusion VAE.
            header: what it belongs to.
            layout: the order of an adapter's weights.
            initial: the recorded LoRA initialisation, which residuals are taken from.
            scale: (layers,) root mean square of each layer's generated residuals.
            mean: (d,) mean of the task vectors.
            std: (d,) standard deviation of the task vectors, above zero.
        """
        super().__init__(header, layout, initial, mean=mean, std=std)
        assert scale.shape == (layout.layers,), (scale.shape, layout.layers)
        assert mean.shape == std.shape == (vae.shape.vector,), (mean.shape, std.shape, vae.shape.vector)
        self.vae = vae
        self.register_buffer("scale", scale.detach().float())

    def _aligned(self, flat: Tensor, standard: Tensor) -> Tensor:
        residual = flat - flatten(self.initial.tensors, self.layout)
        scale = self.scale.unsqueeze(1)
        chunks, _ = cut_chunks(residual.to(self.scale.device) / scale, self.vae.shape.chunk)
        which = torch.arange(len(chunks), device=chunks.device)
        parts = zip(torch.split(chunks, BLOCK), torch.split(which, BLOCK), strict=True)
        corrections = torch.cat([self.vae(some, numbers, standard)[0] for some, numbers in parts])
        return flat + (join_chunks(corrections, tuple(residual.shape)) * scale).cpu()

    def _kept(self) -> dict[str, Tensor]:
        return {"scale": self.scale}


class GainAligner(TrainedAligner):
    """A VAE that moves each module towards the shared adapter and scales its change."""

    vae: GainVAE
    shared: Tensor

    def __init__(
        self,
        vae: GainVAE,
        header: AlignerHeader,
        layout: TokenLayout,
        initial: LoraWeights,
        *,
        shared: Tensor,
        mean: Tensor,
        std: Tensor,
    ) -> None:
        """Put the parts together.

        Args:
            vae: the trained VAE.
            header: what it belongs to.
            layout: the order of an adapter's weights.
            initial: the recorded LoRA initialisation.
            shared: (layers, D_l) the adapter that the generator makes without prompts.
            mean: (v,) mean of the conditions.
            std: (v,) standard deviation of the conditions, above zero.
        """
        super().__init__(header, layout, initial, mean=mean, std=std)
        assert shared.shape == (layout.layers, layout.length), (shared.shape, layout.layers, layout.length)
        self.vae = vae
        self.register_buffer("shared", shared.detach().to(torch.bfloat16).float())  # as it is stored

    def _aligned(self, flat: Tensor, standard: Tensor) -> Tensor:
        mine = flat.to(self.shared.device)
        numbers, _, _ = self.vae(features_of(mine, self.shared, self.layout), standard)
        return moved(mine, self.shared, numbers, self.layout).cpu()

    def _kept(self) -> dict[str, Tensor]:
        return {"shared": self.shared.to(torch.bfloat16)}
