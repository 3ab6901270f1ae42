"""Checkpoint collection: short LoRA trainings whose last steps are all kept.

Every training starts from one recorded initialisation, so that A0 is a constant and residuals are comparable.

Source: CAO-LLM Table 8.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from cao.errors import InputError
from cao.files import canonical_json, sha256_bytes
from cao.inference.answer_loss import answer_loss
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.model.training_state import restore_training, save_training
from cao.progress import Progress, silent
from tools.generate_lora.tokens import TokenLayout, flatten


@dataclass(frozen=True)
class CheckpointPreset:
    """How checkpoints are collected.

    Attributes:
        warm_steps: steps of the first phase, of which none is kept.
        warm_rate: its learning rate.
        kept_steps: steps of the second phase, of which every one is kept.
        kept_rate: its learning rate.
        batch: questions a step.
        samples: examples at most.

    Source: CAO-LLM Table 8 (the defaults).
    """

    warm_steps: int = 75
    warm_rate: float = 1e-4
    kept_steps: int = 50
    kept_rate: float = 1e-5
    batch: int = 32
    samples: int = 5000


def collect(
    lm: LanguageModel,
    rows: Sequence[Row],
    layout: TokenLayout,
    *,
    preset: CheckpointPreset,
    initial_seed: int,
    seed: int,
    progress: Progress = silent,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 30.0,
) -> tuple[Tensor, list[float]]:
    """Train one adapter on a task and return its kept checkpoints.

    Args:
        lm: the base model, without an adapter.
        rows: the task's training questions with their gold answers.
        layout: how residuals are laid out.
        preset: steps, rates, batch.
        initial_seed: of the shared initialisation.
        seed: of the order of the questions.
        progress: called after each step.
        checkpoint: file that a killed training goes on from.
        checkpoint_every_s: seconds between two writings of it.

    Returns:
        Residuals (kept_steps, layers, D_l) bfloat16, and the loss of every step, nats per answer token.

    Raises:
        InputError: no questions, or the training diverged.

    Source: CAO-LLM Table 8.
    """
    if not rows:
        raise InputError("a task without questions with choices cannot be trained on")
    start = lm.fresh_lora(initial_seed)
    origin = flatten(start.tensors, layout)
    steps = preset.warm_steps + preset.kept_steps
    schedule = batches(len(rows), preset.batch, steps, seed)
    told = {
        "preset": asdict(preset),
        "seed": seed,
        "initial": initial_seed,
        "model": lm.sha256,
        "layout": layout.sha256,
    }
    tokens = sha256_bytes(canonical_json([row.tokens for row in rows]).encode())
    fingerprint = sha256_bytes(canonical_json({**told, "rows": tokens}).encode())
    kept: list[Tensor] = []
    losses: list[float] = []
    with lm.adapted(start, trainable=True) as live:
        optimizer = torch.optim.AdamW(list(live.values()), lr=preset.warm_rate, weight_decay=0.0)
        carried = restore_training(checkpoint, fingerprint, live, optimizer, ("kept", "losses")) if checkpoint else None
        if carried:
            kept, losses = list(carried["kept"]), carried["losses"].tolist()
        saved = time.monotonic()
        for step in range(len(losses), steps):
            for group in optimizer.param_groups:
                group["lr"] = preset.warm_rate if step < preset.warm_steps else preset.kept_rate
            optimizer.zero_grad()
            loss = answer_loss(lm, [rows[i] for i in schedule[step]], gradient=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(list(live.values()), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
            if losses[-1] != losses[-1]:
                raise InputError("the training diverged (the loss is not a number): lower the preset's rate")
            if step >= preset.warm_steps:
                flat = flatten({name: parameter.detach() for name, parameter in live.items()}, layout)
                kept.append((flat.cpu() - origin).to(torch.bfloat16))
            if checkpoint and time.monotonic() - saved >= checkpoint_every_s:
                so_far = torch.stack(kept) if kept else torch.empty(0)
                carry = {"kept": so_far, "losses": torch.tensor(losses, dtype=torch.float64)}
                save_training(checkpoint, fingerprint, live, optimizer, carry)
                saved = time.monotonic()
            progress("checkpoints", step + 1, steps)
    if not all(bool(residual.isfinite().all()) for residual in kept):
        raise InputError("the training diverged (a weight is not finite): lower the preset's rate")
    return torch.stack(kept), losses


def batches(count: int, size: int, steps: int, seed: int) -> list[list[int]]:
    """Return the questions of each step; epochs, each in an order of its own, follow one another without a gap.

    Args:
        count: number of questions.
        size: questions a step.
        steps: number of steps.
        seed: of the order.
    """
    rng, places = random.Random(seed), list[int]()
    while len(places) < steps * size:
        places += rng.sample(range(count), count)
    return [places[start : start + size] for start in range(0, steps * size, size)]
