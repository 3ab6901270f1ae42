"""A trained aligner: the Fusion VAE with the statistics that its inputs are standardised by, in memory and on disk.

On disk it is one sealed file. The VAE's weights are bf16; the statistics stay float32, because a hidden state's mean
may be hundreds of its standard deviations, and bf16 would round the whole signal away.

Source: CAO-LLM §2.3, F.
"""

from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cao.errors import InputError
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.sealed import Header, read_sealed, write_sealed
from cao.types import Record
from tools.align_lora.fusion_vae import FusionShape, FusionVAE, cut_chunks, join_chunks
from tools.generate_lora.tokens import TokenLayout, flatten, unflatten

AlignTarget = Literal["generated", "checkpoint"]

VECTOR_LIMIT = 5.0
"""A standardised task vector is held within ± this: an unseen task may lie far outside of what was trained on."""
BLOCK = 64
"""Chunks that go through the VAE together: bounds the activations, whatever the adapter's length."""


class AlignerHeader(Record):
    """What an aligner is and belongs to.

    Attributes:
        target: what it was trained to reconstruct: the ``generated`` weights themselves, or the task's ``checkpoint``.
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


class TrainedAligner(nn.Module):
    """A Fusion VAE that is ready for use.

    Attributes:
        header: what it belongs to.
        layout: the order of an adapter's weights.
        initial: the recorded LoRA initialisation, which residuals are taken from.
    """

    scale: Tensor
    mean: Tensor
    std: Tensor

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
            initial: the recorded LoRA initialisation.
            scale: (layers,) root mean square of each layer's generated residuals.
            mean: (d,) mean of the task vectors.
            std: (d,) standard deviation of the task vectors, above zero.
        """
        super().__init__()
        self.vae, self.header, self.layout, self.initial = vae, header, layout, initial
        assert scale.shape == (layout.layers,), (scale.shape, layout.layers)
        assert mean.shape == std.shape == (vae.shape.vector,), (mean.shape, std.shape, vae.shape.vector)
        for name, value in (("scale", scale), ("mean", mean), ("std", std)):
            self.register_buffer(name, value.detach().float())

    @property
    def sha256(self) -> str:
        """Hash of what ``save`` writes: header and tensors as they are stored."""
        return _described(self).digest(_stored(self))

    def standardise(self, vector: Tensor) -> Tensor:
        """Return a task vector in the units that the VAE was trained in.

        Args:
            vector: (d,).
        """
        return ((vector - self.mean) / self.std).clamp(-VECTOR_LIMIT, VECTOR_LIMIT)

    @torch.no_grad()
    def align(self, generated: LoraWeights, vector: Tensor) -> LoraWeights:
        """Return the generated adapter plus the decoded correction, z = μ: one forward pass, no gradients, O(D).

        Args:
            generated: an adapter of this aligner's layout.
            vector: (d,) task vector of ``generated`` on the target's prompts.

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
        aligned = flat + self._correction(flat - flatten(self.initial.tensors, self.layout), vector)
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

    def _correction(self, residual: Tensor, vector: Tensor) -> Tensor:
        """Return (layers, D_l) on the CPU."""
        scale = self.scale.unsqueeze(1)
        chunks, _ = cut_chunks(residual.to(self.scale.device) / scale, self.vae.shape.chunk)
        which = torch.arange(len(chunks), device=chunks.device)
        standard = self.standardise(vector.to(chunks.device, torch.float32))
        parts = zip(torch.split(chunks, BLOCK), torch.split(which, BLOCK), strict=True)
        corrections = torch.cat([self.vae(some, numbers, standard)[0] for some, numbers in parts])
        return (join_chunks(corrections, tuple(residual.shape)) * scale).cpu()

    def save(self, path: Path) -> None:
        """Write the aligner to one safetensors file, in one step.

        Raises:
            ValueError: a weight is not finite; such an aligner is never written.
        """
        write_sealed(path, _described(self), _stored(self))


class _FileHeader(Header):
    """The header of an aligner's file."""

    what: ClassVar[str] = "an aligner"

    format: Literal[1] = 1
    shape: FusionShape
    header: AlignerHeader


def _described(aligner: TrainedAligner) -> _FileHeader:
    return _FileHeader(shape=aligner.vae.shape, header=aligner.header)


def _stored(aligner: TrainedAligner) -> dict[str, Tensor]:
    weights = {f"vae.{name}": value.to(torch.bfloat16) for name, value in aligner.vae.state_dict().items()}
    return weights | {name: getattr(aligner, name) for name in ("scale", "mean", "std")}


def load_aligner(
    path: Path, layout: TokenLayout, initial: LoraWeights, *, generator_sha256: str | None = None
) -> TrainedAligner:
    """Read an aligner, refusing what is damaged or belongs to something else.

    Args:
        path: the safetensors file.
        layout: the generator's token layout.
        initial: the generator's recorded LoRA initialisation; its base model is the one in use.
        generator_sha256: the generator in use; None where that is checked elsewhere.

    Raises:
        InputError: missing, truncated, tampered, not finite, or made for another base model, layout or generator.
    """
    described, stored, _ = read_sealed(path, _FileHeader)
    tensors = {name: tensor.float() for name, tensor in stored.items()}
    header, shape = described.header, described.shape
    pairs = [
        ("base model", header.base_sha256, initial.base_sha256),
        ("token layout", header.layout_sha256, layout.sha256),
        ("generator", header.generator_sha256, generator_sha256 or header.generator_sha256),
    ]
    for what, theirs, ours in pairs:
        if theirs != ours:
            raise InputError(f"{path}: the aligner was made for {what} {theirs[:12]}, this one is {ours[:12]}")
    with torch.device("meta"):  # sizes are checked before anything of that size is allocated
        vae = FusionVAE(shape)
    wanted = {f"vae.{name}": tuple(value.shape) for name, value in vae.state_dict().items()}
    wanted |= {"scale": (layout.layers,), "mean": (shape.vector,), "std": (shape.vector,)}
    if {name: tuple(value.shape) for name, value in tensors.items()} != wanted:
        raise InputError(f"{path}: its tensors are not those of the Fusion VAE that its header describes")
    if shape.chunks * shape.chunk < layout.total or not bool(
        (tensors["scale"] > 0).all() and (tensors["std"] > 0).all()
    ):
        raise InputError(f"{path}: its chunks or statistics do not fit the token layout")
    vae.load_state_dict({n.removeprefix("vae."): t for n, t in tensors.items() if n.startswith("vae.")}, assign=True)
    statistics = {name: tensors[name] for name in ("scale", "mean", "std")}
    aligner = TrainedAligner(vae, header, layout, initial, **statistics)
    return aligner.requires_grad_(False).eval()
