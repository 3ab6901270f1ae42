"""Training of the aligner: first-order MAML over source tasks, on random chunks of their adapters.

A meta-epoch draws one task. One gradient step at the inner rate on a *support* pair of it gives adapted parameters;
the gradient of the loss on a *query* pair of the same task (another prompt batch, other chunks), taken at the adapted
parameters, moves the meta-parameters by Adam. The derivative through the inner step is left out (first order).

Source: CAO-LLM §2.3, Eq. 3, F.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call

from cao.errors import InputError
from cao.files import canonical_json, sha256_bytes
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.model.training_state import restore_training, save_training
from cao.progress import Progress, silent
from tools.align_lora.aligner import AlignerHeader, ChunkAligner
from tools.align_lora.fusion_vae import FusionVAE, kl_divergence, kl_weight, masked_mse, take_chunks
from tools.align_lora.presets import AlignerPreset, ChunkTarget
from tools.generate_lora.tokens import TokenLayout

STD_FLOOR = 0.05
"""A channel of the task vector varies by at least this share of the average channel: rare noise is not blown up."""


@dataclass(frozen=True)
class SourceTask:
    """What one task gives to the training.

    Attributes:
        name: the task.
        generated: (K, layers, D_l) residuals that the generator makes from K prompt batches.
        vectors: (K, d) task vector of each.
        checkpoint: (layers, D_l) residual of the task's trained checkpoint; None where it is not the target.
    """

    name: str
    generated: Tensor = field(repr=False)
    vectors: Tensor = field(repr=False)
    checkpoint: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True)
class _Pair:
    """Some chunks of one generated adapter and what they should become, standardised."""

    chunks: Tensor  # (b, c)
    correction: Tensor  # (b, c), target minus generated
    mask: Tensor  # (b, c)
    which: Tensor  # (b,)
    vector: Tensor  # (d,)
    noise: Tensor  # (b, latent)


@dataclass
class _Meta:
    """The training's state besides the live parameters."""

    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    curve: list[tuple[float, float]]  # MSE and KL on the query pair of each meta-epoch


def _check(tasks: list[SourceTask], layout: TokenLayout, target: ChunkTarget) -> None:
    if not tasks:
        raise InputError("an aligner is trained on one source task or more, none was given")
    flat = (layout.layers, layout.length)
    width = tasks[0].vectors.shape[-1:]
    for task in tasks:
        k = len(task.generated)
        if not k or task.generated.shape != (k, *flat) or task.vectors.shape != (k, *width):
            raise InputError(f"{task.name}: residuals {tuple(task.generated.shape)} and vectors do not fit {flat}")
        if target == "checkpoint" and (task.checkpoint is None or task.checkpoint.shape != flat):
            raise InputError(f"{task.name}: the target is the checkpoint, and it has none of shape {flat}")
        parts = [task.generated, task.vectors, *([] if task.checkpoint is None else [task.checkpoint])]
        if not all(bool(part.isfinite().all()) for part in parts):
            raise InputError(f"{task.name}: holds values that are not finite")


def _statistics(tasks: list[SourceTask]) -> dict[str, Tensor]:
    """Return each layer's scale, and the task vectors' mean and standard deviation, tasks weighing the same."""
    squares = torch.stack([task.generated.square().mean((0, 2)) for task in tasks]).mean(0)
    scale = squares.sqrt()
    usual = scale.max() if bool(scale.max() > 0) else torch.ones(())
    mean, std = spread([task.vectors for task in tasks])
    return {"scale": torch.where(scale > 0, scale, usual), "mean": mean, "std": std}


def spread(vectors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of tasks' vectors, each task weighing the same.

    Args:
        vectors: (K, d) of each task.

    Returns:
        (d,) and (d,), the latter above zero.
    """
    mean = torch.stack([each.mean(0) for each in vectors]).mean(0)
    variance = torch.stack([(each - mean).square().mean(0) for each in vectors]).mean(0)
    floor = (STD_FLOOR * variance.mean().sqrt()).clamp(min=1e-6)
    return mean, variance.sqrt().maximum(floor)


def _pairs(task: SourceTask, aligner: ChunkAligner, preset: AlignerPreset, generator: torch.Generator) -> list[_Pair]:
    """Return a support and a query pair: other prompt batches where there are two, other chunks."""
    shape, device, pairs = aligner.vae.shape, aligner.scale.device, []
    unit = (1 / aligner.scale.cpu()).unsqueeze(1).expand(task.generated.shape[1:])
    batches = torch.randperm(len(task.generated), generator=generator).tolist()
    for batch in (batches[0], batches[-1]):
        which = torch.randperm(shape.chunks, generator=generator)[: preset.chunks_per_step]
        made, units = (take_chunks(flat, which, shape.chunk) for flat in (task.generated[batch], unit))
        wanted = made
        if aligner.header.target == "checkpoint":
            assert task.checkpoint is not None
            wanted = take_chunks(task.checkpoint, which, shape.chunk)
        noise = torch.randn(len(which), shape.latent, generator=generator)
        pair = _Pair(
            chunks=(made * units).to(device),
            correction=((wanted - made) * units).to(device),
            mask=(units > 0).to(device),
            which=which.to(device),
            vector=aligner.standardise(task.vectors[batch].to(device)),
            noise=noise.to(device),
        )
        pairs.append(pair)
    return pairs


def _loss(vae: FusionVAE, parameters: dict[str, Tensor], pair: _Pair, weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return Eq. 3's MSE + λ·KL, and its two parts; the generated weights stand on both sides of the MSE."""
    inputs = (pair.chunks, pair.which, pair.vector, pair.noise)
    correction, mean, log_variance = functional_call(vae, parameters, inputs)
    mse, kl = masked_mse(correction, pair.correction, pair.mask), kl_divergence(mean, log_variance)
    return mse + weight * kl, mse.detach(), kl.detach()


def _meta_epoch(vae: FusionVAE, pairs: list[_Pair], weight: float, preset: AlignerPreset, meta: _Meta) -> None:
    """Take one step of first-order MAML and record the query's losses."""
    live: dict[str, Tensor] = dict(vae.named_parameters())
    slopes = torch.autograd.grad(_loss(vae, live, pairs[0], weight)[0], list(live.values()))
    steps = zip(live.items(), slopes, strict=True)
    adapted = {name: (p.detach() - preset.inner_rate * slope).requires_grad_() for (name, p), slope in steps}
    loss, mse, kl = _loss(vae, adapted, pairs[1], weight)
    slopes = torch.autograd.grad(loss, list(adapted.values()))
    if not all(math.isfinite(value) for value in (loss.item(), *(slope.sum().item() for slope in slopes))):
        raise InputError(f"the aligner's training diverged in meta-epoch {len(meta.curve) + 1}: lower its rates")
    for parameter, slope in zip(live.values(), slopes, strict=True):
        parameter.grad = slope
    meta.optimizer.step()
    meta.curve.append((mse.item(), kl.item()))


def _fingerprint(tasks: list[SourceTask], aligner: ChunkAligner, preset: AlignerPreset, seed: int) -> str:
    depends_on = {"header": aligner.header.model_dump(mode="json"), "preset": preset.model_dump(), "seed": seed}
    start = adapter_sha256(aligner.initial)
    hashes = [
        sha256_bytes(part.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        for task in tasks
        for part in (task.generated, task.vectors, task.checkpoint)
        if part is not None
    ]
    return sha256_bytes(canonical_json({**depends_on, "start": start, "data": hashes}).encode())


def _untrained(
    tasks: list[SourceTask],
    layout: TokenLayout,
    initial: LoraWeights,
    preset: AlignerPreset,
    seed: int,
    generator_sha256: str,
) -> ChunkAligner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = FusionVAE(preset.shape(tasks[0].vectors.shape[1], layout.total))
    provenance = {
        "made_by": "train_aligner",
        "preset": canonical_json(preset.model_dump()),
        "seed": str(seed),
        "tasks": " ".join(task.name for task in tasks),
        "parameters": str(sum(parameter.numel() for parameter in vae.parameters())),
    }
    header = AlignerHeader(
        target=preset.target,
        base_sha256=initial.base_sha256,
        layout_sha256=layout.sha256,
        generator_sha256=generator_sha256,
        vector_prompts=preset.vector_prompts,
        provenance=provenance,
    )
    return ChunkAligner(vae, header, layout, initial, **_statistics(tasks))


def train_aligner(
    tasks: list[SourceTask],
    layout: TokenLayout,
    initial: LoraWeights,
    *,
    preset: AlignerPreset,
    seed: int,
    generator_sha256: str,
    device: str = "cpu",
    progress: Progress = silent,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 10.0,
) -> tuple[ChunkAligner, list[tuple[float, float]]]:
    """Return the aligner after exactly ``preset.meta_epochs`` meta-epochs, and their losses.

    Args:
        tasks: the source tasks.
        layout: the generator's token layout.
        initial: the generator's recorded LoRA initialisation; its base model is the aligner's.
        preset: sizes, schedule and target.
        seed: of the VAE's initialisation and of every draw.
        generator_sha256: the generator that made the residuals.
        device: where the VAE is trained; the residuals stay where they are.
        progress: called after each meta-epoch.
        checkpoint: file that a killed training goes on from, on the CPU bit for bit; another's is overwritten.
        checkpoint_every_s: seconds between two writings of it.

    Returns:
        The aligner, on the CPU, and each meta-epoch's query MSE (in squared layers' scales) and KL (nats a chunk).

    Raises:
        InputError: residuals of another layout, not finite, or without a checkpoint that is wanted; the training
            diverged; the checkpoint file is damaged.

    Source: CAO-LLM §2.3, Eq. 3, F.
    """
    _check(tasks, layout, preset.target)
    aligner = _untrained(tasks, layout, initial, preset, seed, generator_sha256)
    fingerprint = _fingerprint(tasks, aligner, preset, seed)
    vae = aligner.to(device).vae
    optimizer = torch.optim.Adam(vae.parameters(), lr=preset.meta_rate)
    meta = _Meta(optimizer, torch.Generator().manual_seed(seed), [])
    live = dict(vae.named_parameters())
    carried = restore_training(checkpoint, fingerprint, live, optimizer, ("draws", "curve")) if checkpoint else None
    if carried:
        meta.generator.set_state(carried["draws"])
        meta.curve = [(mse, kl) for mse, kl in carried["curve"].tolist()]
    saved = time.monotonic()
    while len(meta.curve) < preset.meta_epochs:
        task = tasks[int(torch.randint(len(tasks), (), generator=meta.generator))]
        pairs = _pairs(task, aligner, preset, meta.generator)
        _meta_epoch(vae, pairs, kl_weight(len(meta.curve), preset.meta_epochs, preset.kl), preset, meta)
        if checkpoint and time.monotonic() - saved >= checkpoint_every_s:
            carry = {"draws": meta.generator.get_state(), "curve": torch.tensor(meta.curve, dtype=torch.float64)}
            save_training(checkpoint, fingerprint, live, optimizer, carry)
            saved = time.monotonic()
        progress("aligner", len(meta.curve), preset.meta_epochs)
    return _finished(aligner, meta), meta.curve


def _finished(aligner: ChunkAligner, meta: _Meta) -> ChunkAligner:
    tenth = max(1, len(meta.curve) // 10)
    losses: dict[str, str] = {}
    for name, part in (("first", meta.curve[:tenth]), ("last", meta.curve[-tenth:])) if meta.curve else ():
        mse, kl = torch.tensor(part, dtype=torch.float64).mean(0).tolist()
        losses |= {f"mse_{name}_tenth": f"{mse:.6f}", f"kl_{name}_tenth": f"{kl:.4f}"}
    provenance = {**aligner.header.provenance, **losses}
    aligner.header = aligner.header.model_copy(update={"provenance": provenance})
    return aligner.cpu().requires_grad_(False).eval()
