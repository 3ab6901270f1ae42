"""A trained aligner: the Fusion VAE with the statistics that its inputs are standardised by, in memory and on disk.

On disk it is one safetensors file. The VAE's weights are bf16; the statistics stay float32, because a hidden state's
mean may be hundreds of its standard deviations, and bf16 would round the whole signal away. The header carries what
the aligner belongs to and a hash over the header and every tensor.

Source: CAO-LLM §2.3, F.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from cao.errors import InputError
from cao.files import canonical_json, write_atomic
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.types import Record
from tools.align_lora.fusion_vae import FusionShape, FusionVAE, cut_chunks, join_chunks
from tools.generate_lora.tokens import TokenLayout, flatten, unflatten

AlignTarget = Literal["generated", "checkpoint"]

FORMAT = 1
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
    def target(self) -> AlignTarget:
        """What it was trained to reconstruct."""
        return self.header.target

    @property
    def base_sha256(self) -> str:
        """Hash of the base model that it belongs to."""
        return self.header.base_sha256

    @property
    def layout_sha256(self) -> str:
        """Hash of the token layout that it belongs to."""
        return self.header.layout_sha256

    @property
    def generator_sha256(self) -> str:
        """Hash of the generator whose weights it was trained on."""
        return self.header.generator_sha256

    @property
    def vector_prompts(self) -> int:
        """How many prompts a task vector is made from at most."""
        return self.header.vector_prompts

    @property
    def sha256(self) -> str:
        """Hash of what ``save`` writes: header and tensors as they are stored."""
        return _content_sha256(_about(self), _stored(self))

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
        if generated.base_sha256 != self.base_sha256:
            raise InputError(
                f"the adapter was made for base model {generated.base_sha256[:12]}, "
                f"the aligner for {self.base_sha256[:12]}"
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
        made = {"made_by": "align", "target": self.target, "aligner": self.sha256, "start": adapter_sha256(generated)}
        return LoraWeights(
            generated.rank,
            generated.alpha,
            generated.targets,
            tensors,
            self.base_sha256,
            {**generated.provenance, **made},
        )

    def _correction(self, residual: Tensor, vector: Tensor) -> Tensor:
        """Return (layers, D_l) on the CPU."""
        scale = self.scale.unsqueeze(1)
        chunks, _ = cut_chunks(residual.to(self.scale.device) / scale, self.vae.shape.chunk)
        which = torch.arange(len(chunks), device=chunks.device)
        told = self.standardise(vector.to(chunks.device, torch.float32))
        blocks = [self.vae(chunks[s : s + BLOCK], which[s : s + BLOCK], told)[0] for s in range(0, len(chunks), BLOCK)]
        return (join_chunks(torch.cat(blocks), tuple(residual.shape)) * scale).cpu()

    def save(self, path: Path) -> None:
        """Write the aligner to one safetensors file, in one step.

        Raises:
            ValueError: a weight is not finite; such an aligner is never written.
        """
        tensors, about = _stored(self), _about(self)
        for name, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"refusing to write an aligner with non-finite values in {name}")
        told = canonical_json({**about, "sha256": _content_sha256(about, tensors)})
        write_atomic(path, save(tensors, {"about": told}))  # one entry: safetensors writes several in no fixed order


def _about(aligner: TrainedAligner) -> dict[str, Any]:
    return {"format": FORMAT, "shape": asdict(aligner.vae.shape), "header": aligner.header.model_dump(mode="json")}


def _stored(aligner: TrainedAligner) -> dict[str, Tensor]:
    tensors = {
        f"vae.{name}": value.detach().to("cpu", torch.bfloat16) for name, value in aligner.vae.state_dict().items()
    }
    statistics = {name: getattr(aligner, name).cpu() for name in ("scale", "mean", "std")}
    return {name: value.contiguous() for name, value in (tensors | statistics).items()}


def _content_sha256(about: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(canonical_json(about).encode())
    for name in sorted(tensors):
        digest.update(f"{name}{tensors[name].dtype}{tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class _About(Record):
    """The JSON in a file's header, less its hash."""

    format: Literal[1]
    shape: FusionShape
    header: AlignerHeader


def _read(path: Path) -> tuple[_About, dict[str, Tensor]]:
    """Return what a file holds once its content matches the hash in its header.

    Raises:
        InputError: missing, truncated, tampered, another format, or not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            stated = json.loads((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        recorded, version = stated.pop("sha256"), stated["format"]
        found = _content_sha256(stated, tensors)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged or not safetensors ({error})") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not an aligner ({type(error).__name__} in its header)") from None
    if version != FORMAT:
        raise InputError(f"{path}: an aligner of format {version!r}, this version reads {FORMAT}")
    if found != recorded:
        raise InputError(f"{path}: its content has hash {found[:12]}, recorded is {str(recorded)[:12]}; it was changed")
    try:
        about = _About.model_validate(stated)
    except (ValidationError, InputError) as error:
        raise InputError(f"{path}: its header cannot be read ({type(error).__name__})") from None
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise InputError(f"{path}: {name} holds values that are not finite")
    return about, tensors


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
    about, tensors = _read(path)
    header, shape = about.header, about.shape
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
