"""Checkpoint collection: short LoRA trainings whose last steps are all kept.

Every training starts from one recorded initialisation, so that A0 is a constant and residuals are comparable.

Source: CAO-LLM Table 8.
"""

import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cao.configuration import Amount, Count, CountOrNone
from cao.errors import InputError
from cao.files import canonical_json, sha256_bytes
from cao.inference.answer_loss import add_answer_gradient
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.model.training_state import restore_training, save_training
from cao.progress import Progress, silent
from cao.types import Record
from tools.generate_lora.tokens import TokenLayout, flatten


class CheckpointPreset(Record):
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

    warm_steps: CountOrNone = 75
    warm_rate: Amount = 1e-4
    kept_steps: Count = 50
    kept_rate: Amount = 1e-5
    batch: Count = 32
    samples: Count = 5000

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.warm_rate if step < self.warm_steps else self.kept_rate


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
    fingerprint = _fingerprint(lm, rows, layout, preset, initial_seed, seed)
    kept, losses = list[Tensor](), list[float]()
    with lm.adapted(start, trainable=True) as live:
        optimizer = torch.optim.AdamW(list(live.values()), lr=preset.warm_rate, weight_decay=0.0)
        carried = restore_training(checkpoint, fingerprint, live, optimizer, ("kept", "losses")) if checkpoint else None
        if carried:
            kept, losses = list(carried["kept"]), carried["losses"].tolist()
        saved = time.monotonic()
        for step in range(len(losses), steps):
            losses.append(answer_step(lm, [rows[i] for i in schedule[step]], live, optimizer, preset.rate(step)))
            if step >= preset.warm_steps:
                kept.append(_residual(live, origin, layout))
            if checkpoint and time.monotonic() - saved >= checkpoint_every_s:
                so_far = torch.stack(kept) if kept else torch.empty(0)
                carry = {"kept": so_far, "losses": torch.tensor(losses, dtype=torch.float64)}
                save_training(checkpoint, fingerprint, live, optimizer, carry)
                saved = time.monotonic()
            progress("checkpoints", step + 1, steps)
    if not all(bool(residual.isfinite().all()) for residual in kept):
        raise InputError("the training diverged (a weight is not finite): lower the preset's rate")
    return torch.stack(kept), losses


def answer_step(
    lm: LanguageModel, rows: Sequence[Row], live: dict[str, Tensor], optimizer: torch.optim.Optimizer, rate: float
) -> float:
    """Take one optimiser step on gold answers and return its loss, nats per answer token.

    Args:
        lm: the model with the adapter that is trained.
        rows: B questions with their gold answers.
        live: name → parameter of the adapter; their gradient's norm is clipped to 1.
        optimizer: of these parameters.
        rate: learning rate of the step.

    Raises:
        InputError: the loss is not a number.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss = add_answer_gradient(lm, rows)
    torch.nn.utils.clip_grad_norm_(list(live.values()), 1.0)
    optimizer.step()
    if math.isnan(loss):
        raise InputError("the training diverged (the loss is not a number): lower the preset's rate")
    return loss


def _residual(live: dict[str, Tensor], origin: Tensor, layout: TokenLayout) -> Tensor:
    """Return how far the adapter has come from its initialisation, (layers, D_l) bfloat16, on the CPU."""
    flat = flatten({name: parameter.detach() for name, parameter in live.items()}, layout)
    return (flat.cpu() - origin).to(torch.bfloat16)


def _fingerprint(
    lm: LanguageModel, rows: Sequence[Row], layout: TokenLayout, preset: CheckpointPreset, initial_seed: int, seed: int
) -> str:
    """Return what a resumed training has to agree in: settings, seeds, model, layout and questions."""
    depends_on = {
        "preset": preset.model_dump(),
        "seed": seed,
        "initial": initial_seed,
        "model": lm.sha256,
        "layout": layout.sha256,
        "rows": sha256_bytes(canonical_json([row.tokens for row in rows]).encode()),
    }
    return sha256_bytes(canonical_json(depends_on).encode())


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
