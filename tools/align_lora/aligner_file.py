"""Reading an aligner's file: what is damaged, tampered with or made for something else is refused.

The VAE's weights are bf16; the statistics stay float32, because a hidden state's mean may be hundreds of its standard
deviations, and bf16 would round the whole signal away.
"""

from pathlib import Path

import torch
from torch import Tensor

from cao.errors import InputError
from cao.model.adapters import LoraWeights
from cao.sealed import read_sealed
from tools.align_lora.aligner import AlignerFile, AlignerHeader, ChunkAligner, GainAligner, TrainedAligner
from tools.align_lora.fusion_vae import FusionShape, FusionVAE
from tools.align_lora.gains import GainShape, GainVAE
from tools.generate_lora.tokens import TokenLayout


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
    described, stored, _ = read_sealed(path, AlignerFile)
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
        vae = FusionVAE(shape) if isinstance(shape, FusionShape) else GainVAE(shape)
    wanted = {f"vae.{name}": tuple(value.shape) for name, value in vae.state_dict().items()}
    wanted |= {"mean": (shape.vector,), "std": (shape.vector,)}
    wanted |= {"scale": (layout.layers,)} if isinstance(vae, FusionVAE) else {"shared": (layout.layers, layout.length)}
    if {name: tuple(value.shape) for name, value in tensors.items()} != wanted:
        raise InputError(f"{path}: its tensors are not those of the VAE that its header describes")
    spreads = [tensors["std"], *([tensors["scale"]] if "scale" in tensors else [])]
    if not _fits(shape, layout) or not all(bool((spread > 0).all()) for spread in spreads):
        raise InputError(f"{path}: its sizes or statistics do not fit the token layout")
    vae.load_state_dict({n.removeprefix("vae."): t for n, t in tensors.items() if n.startswith("vae.")}, assign=True)
    return _aligner(vae, header, layout, initial, tensors).requires_grad_(False).eval()


def _fits(shape: FusionShape | GainShape, layout: TokenLayout) -> bool:
    if isinstance(shape, FusionShape):
        return shape.chunks * shape.chunk >= layout.total
    return (shape.layers, shape.modules) == (layout.layers, len(layout.modules))


def _aligner(
    vae: FusionVAE | GainVAE, header: AlignerHeader, layout: TokenLayout, initial: LoraWeights, kept: dict[str, Tensor]
) -> TrainedAligner:
    mean, std = kept["mean"], kept["std"]
    if isinstance(vae, FusionVAE):
        return ChunkAligner(vae, header, layout, initial, scale=kept["scale"], mean=mean, std=std)
    return GainAligner(vae, header, layout, initial, shared=kept["shared"], mean=mean, std=std)
