"""Training of the gain aligner: the answers' loss through the frozen model, on adapters from other folds' generators.

At use an aligner meets adapters for tasks that the generator never saw. So it is trained on such: each source's
adapters come from a generator that was not trained on that source. What it decodes goes into the live LoRA parameters,
the loss of the source's own questions is differentiated by them, and the gradient is handed on to the VAE.

Source: CAO-LLM §2.3, Eq. 3 (λ·KL, annealed); the loss of answers in the place of the MSE is this project's.
"""

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from cao.errors import InputError
from cao.files import canonical_json, sha256_bytes
from cao.inference.choice_loss import ChoiceRow
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.model.training_state import restore_training, save_training
from cao.progress import Progress, silent
from tools.align_lora.aligner import AlignerHeader, GainAligner
from tools.align_lora.fusion_vae import kl_divergence, kl_weight
from tools.align_lora.gains import GainShape, GainVAE, features_of, moved
from tools.align_lora.presets import GainPreset
from tools.align_lora.training import spread
from tools.generate_lora.sources import GeneratorPreset
from tools.generate_lora.tokens import TokenLayout, flatten
from tools.generate_lora.training_step import behaviour, neighbours


@dataclass(frozen=True)
class AnsweredTask:
    """What one source gives to the training.

    Attributes:
        name: the task.
        adapters: (K, layers, D_l), A and B, made from K prompt batches by a generator that never saw the task.
        shared: (layers, D_l), what that generator makes without prompts.
        conditions: (K, v) task vector of each adapter, and the base model's state behind it.
        questions: of the task, sorted by length.
    """

    name: str
    adapters: Tensor = field(repr=False)
    shared: Tensor = field(repr=False)
    conditions: Tensor = field(repr=False)
    questions: list[ChoiceRow] = field(repr=False)


def train_gain_aligner(
    tasks: Sequence[AnsweredTask],
    lm: LanguageModel,
    layout: TokenLayout,
    initial: LoraWeights,
    *,
    preset: GainPreset,
    loss: GeneratorPreset,
    shared: Tensor,
    seed: int,
    generator_sha256: str,
    progress: Progress = silent,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 60.0,
) -> tuple[GainAligner, list[tuple[float, float]]]:
    """Return the aligner after exactly ``preset.steps`` steps, and their losses.

    Args:
        tasks: the sources.
        lm: the base model, without an adapter.
        layout: the generator's.
        initial: the generator's recorded LoRA initialisation.
        preset: sizes and schedule.
        loss: for the weights of the loss through the model, the generator's own.
        shared: (layers, D_l), what the generator in use makes without prompts; it goes into the aligner's file.
        seed: of the VAE's initialisation and of every draw.
        generator_sha256: the generator that the aligner works behind.
        progress: called after each step.
        checkpoint: file that a killed training goes on from.
        checkpoint_every_s: seconds between two writings of it.

    Returns:
        The aligner, on the CPU, and each step's loss through the model and KL, in nats.

    Raises:
        InputError: nothing to train on, values not finite, the training diverged, or the checkpoint is damaged.

    Source: CAO-LLM §2.3, F.
    """
    _check(tasks, layout)
    aligner = _untrained(tasks, layout, initial, preset, shared, seed, generator_sha256).to(lm.device)
    optimizer = torch.optim.AdamW(aligner.vae.parameters(), lr=preset.rate, weight_decay=0.01)
    live_vae = dict(aligner.vae.named_parameters())
    fingerprint = _fingerprint(tasks, aligner, preset, loss, seed)
    carried = restore_training(checkpoint, fingerprint, live_vae, optimizer, ("curve",)) if checkpoint else None
    curve = [(float(a), float(b)) for a, b in carried["curve"].tolist()] if carried else []
    saved = time.monotonic()
    with lm.adapted(initial, trainable=True) as live:
        while len(curve) < preset.steps:
            rng = random.Random(f"{seed}:{len(curve)}")
            curve.append(_step(aligner, tasks, lm, live, optimizer, preset, loss, len(curve), rng))
            if not all(math.isfinite(value) for value in curve[-1]):
                raise InputError(f"the aligner's training diverged at step {len(curve)}: lower the preset's rate")
            if checkpoint and time.monotonic() - saved >= checkpoint_every_s:
                carry = {"curve": torch.tensor(curve, dtype=torch.float64)}
                save_training(checkpoint, fingerprint, live_vae, optimizer, carry)
                saved = time.monotonic()
            progress("aligner", len(curve), preset.steps)
    aligner.cpu().requires_grad_(False).eval()
    return aligner, curve


def _step(
    aligner: GainAligner,
    tasks: Sequence[AnsweredTask],
    lm: LanguageModel,
    live: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    preset: GainPreset,
    loss: GeneratorPreset,
    step: int,
    rng: random.Random,
) -> tuple[float, float]:
    """Take one step on some tasks and return the mean loss through the model and the mean KL."""
    chosen = rng.sample(list(tasks), min(preset.tasks, len(tasks)))
    weight, answered, spread = kl_weight(step, preset.steps, preset.kl), 0.0, 0.0
    optimizer.zero_grad()
    for task in chosen:
        k = rng.randrange(len(task.adapters))
        noise = torch.randn(preset.latent, generator=torch.Generator().manual_seed(rng.getrandbits(62)))
        adapter, shared = (part.to(lm.device).float() for part in (task.adapters[k], task.shared))
        condition = aligner.standardise(task.conditions[k].to(lm.device))
        features = features_of(adapter, shared, aligner.layout)
        numbers, mean, log_variance = aligner.vae(features, condition, noise.to(lm.device))
        flat = moved(adapter, shared, numbers, aligner.layout)
        questions = neighbours(task.questions, preset.batch, rng)
        found, slope = behaviour(lm, live, aligner.layout, flat.detach(), questions, loss)
        kl = kl_divergence(mean[None], log_variance[None])
        ((flat * slope).sum() + weight * kl).div(len(chosen)).backward()  # type: ignore[no-untyped-call]
        answered, spread = answered + found / len(chosen), spread + float(kl.detach()) / len(chosen)
    torch.nn.utils.clip_grad_norm_(aligner.vae.parameters(), 1.0)
    optimizer.step()
    return answered, spread


def _check(tasks: Sequence[AnsweredTask], layout: TokenLayout) -> None:
    if not tasks:
        raise InputError("an aligner is trained on one source task or more, none was given")
    flat, width = (layout.layers, layout.length), tasks[0].conditions.shape[-1:]
    for task in tasks:
        k = len(task.adapters)
        shapes = (task.adapters.shape, task.shared.shape, task.conditions.shape)
        if not k or not task.questions or shapes != ((k, *flat), flat, (k, *width)):
            raise InputError(f"{task.name}: adapters, conditions and questions do not fit each other or {flat}")
        if not all(bool(part.isfinite().all()) for part in (task.adapters, task.shared, task.conditions)):
            raise InputError(f"{task.name}: holds values that are not finite")


def _untrained(
    tasks: Sequence[AnsweredTask],
    layout: TokenLayout,
    initial: LoraWeights,
    preset: GainPreset,
    shared: Tensor,
    seed: int,
    generator_sha256: str,
) -> GainAligner:
    mean, std = spread([task.conditions.float() for task in tasks])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = GainShape(layout.layers, len(layout.modules), len(mean), preset.hidden, preset.latent)
        vae = GainVAE(shape)
    header = AlignerHeader(
        target="answers",
        base_sha256=initial.base_sha256,
        layout_sha256=layout.sha256,
        generator_sha256=generator_sha256,
        vector_prompts=preset.vector_prompts,
        provenance={
            "made_by": "train_gain_aligner",
            "preset": canonical_json(preset.model_dump()),
            "seed": str(seed),
            "tasks": " ".join(task.name for task in tasks),
            "parameters": str(sum(parameter.numel() for parameter in vae.parameters())),
        },
    )
    return GainAligner(vae, header, layout, initial, shared=shared, mean=mean, std=std)


def _fingerprint(
    tasks: Sequence[AnsweredTask], aligner: GainAligner, preset: GainPreset, loss: GeneratorPreset, seed: int
) -> str:
    data = [
        sha256_bytes(part.detach().cpu().float().contiguous().numpy().tobytes())
        for task in tasks
        for part in (task.adapters, task.shared, task.conditions)
    ]
    asked = sha256_bytes(canonical_json([[q.row.tokens, q.gold] for t in tasks for q in t.questions]).encode())
    depends_on = {
        "header": aligner.header.model_dump(mode="json"),
        "preset": preset.model_dump(),
        "loss": [loss.answers, loss.choices],
        "seed": seed,
        "start": sha256_bytes(flatten(aligner.initial.tensors, aligner.layout).numpy().tobytes()),
        "data": data,
        "questions": asked,
    }
    return sha256_bytes(canonical_json(depends_on).encode())
