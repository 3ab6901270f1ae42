"""Generator training from the first step to the last: resumable, with a rate that rises and falls.

Source: CAO-LLM §2.2, Eq. 1; what a step asks for stands in ``training_step``.
"""

import hashlib
import math
import random
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from cao.errors import InputError
from cao.files import canonical_json, sha256_bytes
from cao.model.language_model import LanguageModel
from cao.model.training_state import restore_training, save_training
from cao.progress import Progress, silent
from cao.sealed import raw_bytes
from tools.generate_lora.generator import TrainedGenerator
from tools.generate_lora.sources import GeneratorPreset, Source, fit
from tools.generate_lora.training_step import Trainer


def train_generator(
    generator: TrainedGenerator,
    sources: Sequence[Source],
    lm: LanguageModel | None,
    *,
    preset: GeneratorPreset,
    seed: int,
    progress: Progress = silent,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 60.0,
) -> list[tuple[float, float]]:
    """Train a generator in place.

    Args:
        generator: untrained, on the device that it is trained on.
        sources: the tasks.
        lm: the base model, without an adapter, for the loss through it; None where no step has one.
        preset: steps, rates, weights.
        seed: of every draw; a resumed training makes the same draws.
        progress: called after each step.
        checkpoint: file that a killed training goes on from.
        checkpoint_every_s: seconds between two writings of it.

    Returns:
        For each step the loss of Eq. 1 (in normalised units) and the one through the model (nats; 0 where not
        computed).

    Raises:
        InputError: nothing to train on, the training diverged, or the checkpoint is damaged.

    Source: CAO-LLM Eq. 1.
    """
    _check(sources, preset)
    assert lm is not None or not preset.through_model, "steps through a model that is not there"
    generator.train().requires_grad_(True)
    optimizer = _optimizer(generator, preset)
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    fingerprint = _fingerprint(generator, sources, preset, seed)
    parameters = dict(generator.named_parameters())
    carried = restore_training(checkpoint, fingerprint, parameters, optimizer, ("losses",)) if checkpoint else None
    losses = [(float(a), float(b)) for a, b in carried["losses"].tolist()] if carried else []
    statistics = fit(generator.mode, sources, generator.device) if preset.reconstruction > 0 else None
    saved = time.monotonic()
    with lm.adapted(generator.initial, trainable=True) if lm else nullcontext(dict[str, torch.Tensor]()) as live:
        trainer = Trainer(generator, sources, lm, live, optimizer, statistics, preset)
        for step in range(len(losses), preset.steps):
            _set_rates(optimizer, rates, step, preset.steps)
            losses.append(trainer.step(step, random.Random(f"{seed}:{step}")))
            optimizer.zero_grad()  # writing a checkpoint has their room
            if not all(math.isfinite(loss) for loss in losses[-1]):
                raise InputError(f"the generator's training diverged at step {step}: lower the preset's rate")
            if checkpoint and time.monotonic() - saved >= checkpoint_every_s:
                carry = {"losses": torch.tensor(losses, dtype=torch.float64)}
                save_training(checkpoint, fingerprint, parameters, optimizer, carry)
                saved = time.monotonic()
            progress("generator", step + 1, preset.steps)
    generator.eval().requires_grad_(False)
    return losses


def _check(sources: Sequence[Source], preset: GeneratorPreset) -> None:
    needed = "prompts and checkpoints" if preset.reconstruction > 0 else "prompts and questions"
    complete = [
        source.states
        and (len(source.residuals) or preset.reconstruction == 0)
        and ((source.questions if preset.choices else source.rows) or not preset.through_model)
        for source in sources
    ]
    if not complete or not all(complete):
        raise InputError(f"a generator is trained on one source or more, each with {needed}")
    if preset.reconstruction == 0 and preset.behaviour_from > 0:
        raise InputError("without the weight of Eq. 1 every step needs the answers' loss: set behaviour_from to 0")


def _optimizer(generator: TrainedGenerator, preset: GeneratorPreset) -> torch.optim.Optimizer:
    """Return AdamW on the decoder and, where it is trained, on the element-wise centre at a rate of its own."""
    centre = [generator.centre] if generator.centre.is_leaf and isinstance(generator.centre, torch.nn.Parameter) else []
    rest = [p for name, p in generator.named_parameters() if name != "centre"]
    groups = [{"params": rest, "lr": preset.rate, "weight_decay": 0.01}]
    groups += [{"params": centre, "lr": preset.centre_rate, "weight_decay": 0.0}] if centre else []
    return torch.optim.AdamW(groups, betas=(0.9, 0.95))


def _set_rates(optimizer: torch.optim.Optimizer, rates: Sequence[float], step: int, steps: int) -> None:
    """Set each group's learning rate for a step: it rises over a tenth of the steps, 20 at most, and falls to zero.

    It falls as a half cosine.
    """
    warm = min(1.0, (step + 1) / max(1, min(20, steps // 10)))
    fall = 0.5 * (1 + math.cos(math.pi * step / steps))
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * warm * fall


def _fingerprint(generator: TrainedGenerator, sources: Sequence[Source], preset: GeneratorPreset, seed: int) -> str:
    """Return what a resumed training has to agree in: settings, the weights that it begins with, and the data.

    The first weights hold the sizes, the seed, and the statistics of all checkpoints.
    """
    about = {name: str(tuple(value.shape)) for name, value in generator.state_dict().items()}
    begin = hashlib.sha256()
    for value in generator.state_dict().values():
        begin.update(raw_bytes(value))
    data = [
        {
            "name": source.name,
            "lengths": [len(state) for state in source.states],
            "rows": sha256_bytes(canonical_json([row.tokens for row in source.rows]).encode()),
            "questions": sha256_bytes(canonical_json([[q.row.tokens, q.gold] for q in source.questions]).encode()),
            "checkpoints": list(source.residuals.shape),
        }
        for source in sources
    ]
    served = {"model": generator.base_sha256, "layout": generator.layout.sha256}
    begun = {"about": about, "begin": begin.hexdigest(), "data": data}
    depends_on = {"preset": preset.model_dump(), "seed": seed, **served, **begun}
    return sha256_bytes(canonical_json(depends_on).encode())
