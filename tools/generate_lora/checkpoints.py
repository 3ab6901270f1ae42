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
from cao.inference.answer_loss import add_answer_gradient, answer_loss
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.model.training_state import restore_training, save_training
from cao.progress import Progress, silent
from cao.types import Record
from tools.generate_lora.tokens import TokenLayout, flatten

LOOK_EVERY = 10
"""Steps of the first phase between two looks at the questions held back."""
LOOKED_AT = 128
"""Questions held back that a look is at, at most."""
CARRIED = ("kept", "losses", "looks")
"""What a killed training goes on from, beside weights and moments."""


class CheckpointPreset(Record):
    """How checkpoints are collected.

    Attributes:
        warm_steps: steps of the first phase, of which none is kept; at most, where there is ``patience``.
        warm_rate: its learning rate.
        kept_steps: steps of the second phase, of which every one is kept.
        kept_rate: its learning rate.
        batch: questions a step.
        samples: examples at most.
        patience: looks at questions held back that the first phase goes on for without a lower loss; 0 looks at none.

    Source: CAO-LLM Table 8 (the defaults, of which ``patience`` is ours).
    """

    warm_steps: CountOrNone = 75
    warm_rate: Amount = 1e-4
    kept_steps: Count = 50
    kept_rate: Amount = 1e-5
    batch: Count = 32
    samples: Count = 5000
    patience: CountOrNone = 0

    @property
    def steps(self) -> int:
        """Steps of both phases; at most, where there is ``patience``."""
        return self.warm_steps + self.kept_steps

    @property
    def questions(self) -> int:
        """Questions that all steps read together, each as often as it is read."""
        return self.steps * self.batch

    def warm_until(self, looks: Sequence[float]) -> int:
        """Return the step at which the first phase ends, as far as the looks so far can say.

        Args:
            looks: the losses on the questions held back, one every ``LOOK_EVERY`` steps.
        """
        before, latest = looks[: -self.patience or None], looks[-self.patience :]
        stopped = self.patience > 0 and len(before) > 0 and min(latest) >= min(before)
        return min(self.warm_steps, len(looks) * LOOK_EVERY) if stopped else self.warm_steps


def collect(
    lm: LanguageModel,
    rows: Sequence[Row],
    layout: TokenLayout,
    *,
    preset: CheckpointPreset,
    initial_seed: int,
    seed: int,
    held_back: Sequence[Row] = (),
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
        seed: of the questions' order.
        held_back: no step is taken on these questions; ``patience`` looks at the first of them.
        progress: called after each step.
        checkpoint: file that a killed training goes on from.
        checkpoint_every_s: seconds between two writings of it.

    Returns:
        Residuals (kept_steps, layers, D_l) bfloat16, and the loss of every step, nats per answer token.

    Raises:
        InputError: no questions, none held back where the preset has patience, or the training diverged.

    Source: CAO-LLM Table 8.
    """
    looked_at = _looked_at(rows, held_back, preset)
    start = lm.fresh_lora(initial_seed)
    origin = flatten(start.tensors, layout)
    schedule = batches(len(rows), preset.batch, preset.steps, seed)
    fingerprint = _fingerprint(lm, rows, looked_at, layout, preset, initial_seed, seed)
    with lm.adapted(start, trainable=True) as live:
        optimizer = torch.optim.AdamW(live.values(), lr=preset.warm_rate, weight_decay=0.0)
        carried = restore_training(checkpoint, fingerprint, live, optimizer, CARRIED) if checkpoint else None
        kept: list[Tensor] = list(carried["kept"]) if carried else []
        losses, looks = ([float(x) for x in carried[name]] if carried else [] for name in CARRIED[1:])
        saved, warm = time.monotonic(), preset.warm_until(looks)
        while (step := len(losses)) < warm + preset.kept_steps:
            rate = preset.warm_rate if step < warm else preset.kept_rate
            losses.append(answer_step(lm, [rows[i] for i in schedule[step]], live, optimizer, rate))
            if step >= warm:
                kept.append(_residual(live, origin, layout))
            elif looked_at and len(losses) % LOOK_EVERY == 0:
                looks.append(float(answer_loss(lm, looked_at, gradient=False)))
                warm = preset.warm_until(looks)
            if checkpoint and time.monotonic() - saved >= checkpoint_every_s:
                save_training(checkpoint, fingerprint, live, optimizer, _carry(kept, losses, looks))
                saved = time.monotonic()
            progress("checkpoints", len(losses), warm + preset.kept_steps)
    return _finite(torch.stack(kept)), losses


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


def _looked_at(rows: Sequence[Row], held_back: Sequence[Row], preset: CheckpointPreset) -> Sequence[Row]:
    """Return the questions that looks are at, none where the preset has no patience; raises as ``collect`` does."""
    if not rows:
        raise InputError("a task without questions with choices cannot be trained on")
    if preset.patience and not held_back:
        raise InputError("checkpoints.patience looks at questions held back, and there are none; set it to 0")
    return held_back[:LOOKED_AT] if preset.patience else ()


def _carry(kept: list[Tensor], losses: list[float], looks: list[float]) -> dict[str, Tensor]:
    """Return what a killed training goes on from beside weights and moments, by the names of ``CARRIED``."""
    so_far = torch.stack(kept) if kept else torch.empty(0)
    numbers = {"losses": losses, "looks": looks}
    return {"kept": so_far} | {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}


def _finite(residuals: Tensor) -> Tensor:
    """Return checkpoints, or raise InputError where a weight is not finite."""
    if not bool(residuals.isfinite().all()):
        raise InputError("the training diverged (a weight is not finite): lower the preset's rate")
    return residuals


def _residual(live: dict[str, Tensor], origin: Tensor, layout: TokenLayout) -> Tensor:
    """Return how far the adapter has come from its initialisation, (layers, D_l) bfloat16, on the CPU."""
    flat = flatten({name: parameter.detach() for name, parameter in live.items()}, layout)
    return (flat.cpu() - origin).to(torch.bfloat16)


def _fingerprint(
    lm: LanguageModel,
    rows: Sequence[Row],
    looked_at: Sequence[Row],
    layout: TokenLayout,
    preset: CheckpointPreset,
    initial_seed: int,
    seed: int,
) -> str:
    """Return what a resumed training has to agree in: settings, seeds, model, layout and questions."""
    depends_on = {
        "preset": preset.model_dump(),
        "seed": seed,
        "initial": initial_seed,
        "model": lm.sha256,
        "layout": layout.sha256,
        "rows": sha256_bytes(canonical_json([row.tokens for row in rows]).encode()),
        "looked_at": sha256_bytes(canonical_json([row.tokens for row in looked_at]).encode()),
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
