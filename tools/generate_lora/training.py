"""Generator training: Eq. 1 on the checkpoints, and on a part of the steps the gold answers' loss through the model.

Eq. 1 asks for weights like the checkpoints'. The behaviour loss asks for what the weights are for: the residual goes
into the live LoRA parameters of the frozen model, the answers' cross-entropy is differentiated by them, and that
gradient is handed on to the generator, so that neither graph has to hold the other.

Source: CAO-LLM §2.2, Eq. 1; the behaviour loss is this project's (Text-to-LoRA trains so).
"""

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cao.configuration import Amount, Count, CountOrNone
from cao.errors import InputError
from cao.files import canonical_json, sha256_bytes
from cao.inference.answer_loss import answer_loss
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.model.training_state import restore_training, save_training
from cao.progress import Progress, silent
from cao.types import Record
from tools.generate_lora.generator import TrainedGenerator
from tools.generate_lora.statistics import Statistics, StatisticsMode
from tools.generate_lora.tokens import flatten, unflatten


class GeneratorPreset(Record):
    """How a generator is trained.

    Attributes:
        steps: optimiser steps.
        tasks: tasks a step, each with its own prompts.
        rate: learning rate of the decoder; falls to zero as a half cosine.
        centre_rate: learning rate of the element-wise centre, 0 to leave it at the checkpoints' mean.
        reconstruction: weight of Eq. 1.
        behaviour_from: the step from which the answers' loss is added; ``steps`` for never.
        batch: questions of one task in a step with the answers' loss.
        noise: standard deviation of the noise on the conditioning, as a share of its own.
        few: share of conditioning tensors that are made of fewer than N prompts, used again in turn.
    """

    steps: Count
    tasks: Count = 4
    rate: Amount = 1e-3
    centre_rate: Amount = 0.0
    reconstruction: Amount = 1.0
    behaviour_from: CountOrNone = 0
    batch: Count = 16
    noise: Amount = 0.05
    few: Amount = 0.25


@dataclass(frozen=True)
class Source:
    """A task that a generator is trained on.

    Attributes:
        name: the task's.
        states: token states of each training prompt, (l_i, C) float16, without padding.
        rows: training questions with their gold answers, sorted by length.
        residuals: (K, layers, D_l) bfloat16 checkpoints.
    """

    name: str
    states: list[Tensor]
    rows: list[Row]
    residuals: Tensor


def fit(mode: StatisticsMode, sources: Sequence[Source], device: str | torch.device = "cpu") -> Statistics:
    """Return the statistics of the sources' checkpoints, each source weighing the same."""
    return Statistics.fit(mode, torch.stack([source.residuals.float().mean(0) for source in sources]).to(device))


def conditioning(states: Sequence[Tensor], shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return token states as one conditioning tensor, used again in turn where there are fewer than N.

    Args:
        states: prompts, (l_i, C) each.
        shape: (N, L, C).

    Returns:
        (N, L, C) float32, padding zero, and (N, L) bool.
    """
    tensor, mask = torch.zeros(shape), torch.zeros(shape[:2], dtype=torch.bool)
    for i in range(shape[0]):
        state = states[i % len(states)][: shape[1]]
        tensor[i, : len(state)] = state
        mask[i, : len(state)] = True
    return tensor, mask


def train_generator(
    generator: TrainedGenerator,
    sources: Sequence[Source],
    lm: LanguageModel,
    *,
    preset: GeneratorPreset,
    seed: int,
    progress: Progress = silent,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 60.0,
) -> list[tuple[float, float]]:
    """Train a generator in place.

    Args:
        generator: untrained; moved to the model's device and left there.
        sources: the tasks.
        lm: the base model, without an adapter, for the answers' loss.
        preset: steps, rates, weights.
        seed: of every draw; a resumed training makes the same draws.
        progress: called after each step.
        checkpoint: file that a killed training goes on from.
        checkpoint_every_s: seconds between two writings of it.

    Returns:
        For each step the loss of Eq. 1 (in normalised units) and the answers' (nats a token; 0 where not computed).

    Raises:
        InputError: nothing to train on, the training diverged, or the checkpoint is damaged.

    Source: CAO-LLM Eq. 1.
    """
    if not sources or not all(source.states and len(source.residuals) for source in sources):
        raise InputError("a generator is trained on one source or more, each with prompts and checkpoints")
    if preset.reconstruction == 0 and preset.behaviour_from > 0:
        raise InputError("without the weight of Eq. 1 every step needs the answers' loss: set behaviour_from to 0")
    generator.to(lm.device).train().requires_grad_(True)
    optimizer = _optimizer(generator, preset)
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    fingerprint = _fingerprint(generator, sources, lm, preset, seed)
    parameters = dict(generator.named_parameters())
    carried = restore_training(checkpoint, fingerprint, parameters, optimizer, ("losses",)) if checkpoint else None
    losses = [(float(a), float(b)) for a, b in carried["losses"].tolist()] if carried else []
    origin = flatten(generator.initial.tensors, generator.layout).to(lm.device)
    statistics = fit(generator.mode, sources, lm.device)
    saved = time.monotonic()
    with lm.adapted(generator.initial, trainable=True) as live:
        for step in range(len(losses), preset.steps):
            _set_rates(optimizer, rates, step, preset.steps)
            rng, with_answers = random.Random(f"{seed}:{step}"), step >= preset.behaviour_from
            given = (generator, sources, lm, live, origin, optimizer, statistics, preset, rng)
            losses.append(train_step(*given, with_answers=with_answers))
            if not all(math.isfinite(loss) for loss in losses[-1]):
                raise InputError(f"the generator's training diverged at step {step}: lower the preset's rate")
            if checkpoint and time.monotonic() - saved >= checkpoint_every_s:
                carry = {"losses": torch.tensor(losses, dtype=torch.float64)}
                save_training(checkpoint, fingerprint, parameters, optimizer, carry)
                saved = time.monotonic()
            progress("generator", step + 1, preset.steps)
    generator.eval().requires_grad_(False)
    return losses


def _optimizer(generator: TrainedGenerator, preset: GeneratorPreset) -> torch.optim.Optimizer:
    """Return AdamW on the decoder and, where it is trained, on the element-wise centre at a rate of its own."""
    centre = [generator.centre] if generator.centre.is_leaf and isinstance(generator.centre, torch.nn.Parameter) else []
    rest = [p for name, p in generator.named_parameters() if name != "centre"]
    groups = [{"params": rest, "lr": preset.rate, "weight_decay": 0.01}]
    groups += [{"params": centre, "lr": preset.centre_rate, "weight_decay": 0.0}] if centre else []
    return torch.optim.AdamW(groups, betas=(0.9, 0.95))


def _set_rates(optimizer: torch.optim.Optimizer, rates: Sequence[float], step: int, steps: int) -> None:
    """Set each group's learning rate for a step: it rises over 20 steps and falls to zero as a half cosine."""
    warm = min(1.0, (step + 1) / 20)
    fall = 0.5 * (1 + math.cos(math.pi * step / steps))
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * warm * fall


def train_step(
    generator: TrainedGenerator,
    sources: Sequence[Source],
    lm: LanguageModel,
    live: dict[str, Tensor],
    origin: Tensor,
    optimizer: torch.optim.Optimizer,
    statistics: Statistics,
    preset: GeneratorPreset,
    rng: random.Random,
    *,
    with_answers: bool,
) -> tuple[float, float]:
    """Take one optimiser step and return its two losses.

    ``statistics`` are those of the sources' checkpoints and stay; the generator's own centre may be elsewhere.
    """
    chosen = rng.sample(range(len(sources)), min(preset.tasks, len(sources)))
    drawn = [draw(sources[i], generator, preset, rng) for i in chosen]
    tensors = torch.stack([tensor for tensor, _ in drawn]).to(lm.device)
    masks = torch.stack([mask for _, mask in drawn]).to(lm.device)
    optimizer.zero_grad()
    normal, own = generator(tensors * masks.unsqueeze(-1))
    residual = generator.statistics.restore(normal, own)
    reconstruction = normal.new_zeros(())
    if preset.reconstruction > 0:
        kept = [sources[i].residuals for i in chosen]
        targets = [r[rng.randrange(len(r))].to(lm.device).float() for r in kept]
        with torch.no_grad():
            goals = [statistics.normalise(target) for target in targets]
        reconstruction = (normal - torch.stack([goal for goal, _ in goals])).square().mean()
        if own.shape[-1]:
            reconstruction = reconstruction + (own - torch.stack([goal for _, goal in goals])).square().mean()
    total, answers = preset.reconstruction * reconstruction, 0.0
    if with_answers:
        slopes = []
        for i, row in zip(chosen, residual.detach(), strict=True):
            questions = _questions(sources[i].rows, preset.batch, rng)
            loss, slope = behaviour(lm, live, generator, origin + row, questions)
            answers += loss / len(chosen)
            slopes.append(slope / len(chosen))
        total = total + (residual * torch.stack(slopes)).sum()
    total.backward()
    torch.nn.utils.clip_grad_norm_(generator.parameters(), 1.0)
    optimizer.step()
    return float(reconstruction.detach()), answers


def behaviour(
    lm: LanguageModel, live: dict[str, Tensor], generator: TrainedGenerator, flat: Tensor, rows: Sequence[Row]
) -> tuple[float, Tensor]:
    """Return the answers' loss under an adapter, and its gradient by the adapter's scalars.

    Args:
        lm: the model with trainable parameters.
        live: those parameters, by their PEFT names; they are overwritten.
        generator: for its layout.
        flat: (layers, D_l) adapter, A0 included.
        rows: questions.

    Returns:
        The loss in nats per answer token, and (layers, D_l) float32.
    """
    with torch.no_grad():
        for name, value in unflatten(flat, generator.layout).items():
            live[name].copy_(value)
            live[name].grad = None
    loss = answer_loss(lm, rows, gradient=True)
    loss.backward()  # type: ignore[no-untyped-call]
    slopes = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in live.items()}
    return float(loss.detach()), flatten(slopes, generator.layout)


def _questions(rows: Sequence[Row], count: int, rng: random.Random) -> list[Row]:
    """Return neighbours among rows that are sorted by length, so that little is padding."""
    start = rng.randrange(max(1, len(rows) - count + 1))
    return list(rows[start : start + count])


def draw(
    source: Source, generator: TrainedGenerator, preset: GeneratorPreset, rng: random.Random
) -> tuple[Tensor, Tensor]:
    """Return one conditioning tensor of a source: other prompts each time, some of few prompts, with noise."""
    shape = generator.decoder.ladder.shapes[0]
    count = min(shape[0], len(source.states))
    if rng.random() < preset.few:
        count = rng.randint(1, count)
    tensor, mask = conditioning(rng.sample(source.states, count), shape)
    if preset.noise:
        torch_rng = torch.Generator().manual_seed(rng.getrandbits(62))
        spread = tensor[mask].std()
        tensor = tensor + preset.noise * spread * torch.randn(tensor.shape, generator=torch_rng)
    return tensor, mask


def _fingerprint(
    generator: TrainedGenerator, sources: Sequence[Source], lm: LanguageModel, preset: GeneratorPreset, seed: int
) -> str:
    """Return what a resumed training has to agree in: settings, the weights that it begins with, and the data.

    The first weights hold the sizes, the seed, and the statistics of all checkpoints.
    """
    about = {name: str(tuple(value.shape)) for name, value in generator.state_dict().items()}
    begin = [value.detach().cpu().contiguous().view(torch.uint8).numpy() for value in generator.state_dict().values()]
    data = [
        {
            "name": source.name,
            "lengths": [len(state) for state in source.states],
            "rows": sha256_bytes(canonical_json([row.tokens for row in source.rows]).encode()),
            "checkpoints": list(source.residuals.shape),
        }
        for source in sources
    ]
    depends_on = {"preset": preset.model_dump(), "seed": seed, "model": lm.sha256, "layout": generator.layout.sha256}
    weights = sha256_bytes(b"".join(array.tobytes() for array in begin))
    return sha256_bytes(canonical_json({**depends_on, "about": about, "begin": weights, "data": data}).encode())
