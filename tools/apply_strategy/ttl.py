"""TTL: test-time learning of the LoRA parameters on the unlabelled prompts' own tokens.

What the source leaves open is settled so:

- The loss is the prompt's mean next-token cross-entropy, weighted by S(x), which is recomputed in every step
  under the current weights (see ``ttl_loss``).
- A prompt takes part when P > P0 under the weights that the training starts from; only those are cycled over,
  so that every step has something to learn. One that falls to P0 on the way weighs zero while it is there.
- With ``inputs`` = ``test`` the prompts are the unlabelled questions about to be answered, as in the paper's Algorithm
  2; nothing else differs. Only texts come in here, so neither labels nor the right choice's place can.
- With ``subset`` = ``layers`` or ``modules`` only the share of them is trained that ``saliency`` picks, on the prompts
  of the schedule's first ``SCAN`` places; the default trains all, as the paper does.
- With ``peft`` = ``dora`` the start becomes a DoRA adapter that computes the same, and its magnitudes are trained too.
- With ``peft`` = ``prompt`` virtual tokens before every prompt are trained, and nothing else: the current soft prompt's
  or fresh ones. The tokens in the loss are the same, so P0 means the same; the rate is larger (``TTL.rate``).
- Prompts longer than ``MAX_TOKENS`` keep their end, which is where the question stands.

Source: CAO-LLM §2.4, G.1 (family ``TTL``).
"""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from cao.errors import NotApplicableError
from cao.files import canonical_json, sha256_bytes
from cao.inference.scoring import ending
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.model.soft_prompt.either import Carried, carried_sha256
from cao.model.soft_prompt.weights import SoftPrompt
from cao.model.training_state import restore_training, save_training
from cao.peft_folder import PREFIX
from cao.progress import Progress, silent
from cao.strategies.ttl import TTL
from cao.types import AdaptedModel
from tools.apply_strategy.inputs import Inputs
from tools.apply_strategy.saliency import as_mask, group_of, pick
from tools.apply_strategy.ttl_loss import LOG_P0, prompt_losses

A = TypeVar("A", bound=Carried)

MAX_TOKENS = 512
CLIP_NORM = 1.0
SCAN = 32
"""Prompts measured together before training; more are looked at only while too few have passed P0."""


def apply(strategy: TTL, inputs: Inputs) -> AdaptedModel:
    """Train on the prompts, from the current adapter on or from a fresh one."""
    trained = train_ttl(
        inputs.lm,
        inputs.prompts,
        strategy,
        _start(strategy, inputs),
        inputs.seed,
        progress=inputs.progress,
        checkpoint=inputs.checkpoint,
    )
    made = trained.provenance
    which = "questions about to be answered" if strategy.transductive else "prompts"
    note = (
        f"{made['steps']} steps on the {made['passed']} {which} that passed P0; their loss went from "
        f"{made['loss_before']} to {made['loss_after']} nats per token"
    )
    note += f"; {picked}" if (picked := made.get("picked")) else ""
    note += f"; {trained.tokens} virtual tokens before each prompt" if isinstance(trained, SoftPrompt) else ""
    return inputs.under_one(inputs.keep(trained), note)


def _start(strategy: TTL, inputs: Inputs) -> Carried:
    """Return what is trained: the current adapter or a fresh one, of the strategy's kind."""
    current = inputs.weights()
    if strategy.peft == "prompt":
        return current or inputs.lm.fresh_soft_prompt(strategy.virtual_tokens, inputs.seed)
    start = current or inputs.lm.fresh_lora(inputs.seed)
    assert isinstance(start, LoraWeights), "TTL.refusal"
    return inputs.lm.as_dora(start) if strategy.peft == "dora" else start


@torch.no_grad()
def perplexities(lm: LanguageModel, prompts: list[str], start: Carried | None) -> list[float]:
    """Return each prompt's perplexity, as TTL's threshold judges it; prompts without a second token have none.

    Args:
        lm: the base model, undressed.
        prompts: unlabelled prompts.
        start: the current adapter, None for the plain model.
    """
    rows = [row for row in (ending(lm, prompt, MAX_TOKENS) for prompt in prompts) if len(row) > 1]
    if not rows:
        return []
    with lm.adapted(start):
        return prompt_losses(lm, rows).double().exp().tolist()  # float32 ends at 88 nats a token


@dataclass
class Training:
    """What a training needs besides the live parameters and their moments."""

    schedule: list[int]  # the prompt at each of the T·B places
    before: Tensor  # (N,) loss under the start weights, infinite where it was not measured
    last: Tensor  # (N,) loss when the prompt was last trained on
    step: int = 0
    picked: Tensor | None = None  # (parameters,) which are trained, None for all

    NAMES: ClassVar = ("schedule", "before", "last", "step")

    @classmethod
    def names(cls, settings: TTL) -> tuple[str, ...]:
        """Return the names of what a checkpoint holds."""
        return cls.NAMES if settings.subset == "all" else (*cls.NAMES, "picked")

    def carried(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Return the fields as tensors, as a checkpoint holds them."""
        return {name: torch.as_tensor(getattr(self, name)) for name in names}

    @classmethod
    def of(cls, carried: dict[str, Tensor]) -> "Training":
        """Return the training that a checkpoint holds."""
        plain = (carried["schedule"].tolist(), carried["before"], carried["last"], int(carried["step"]))
        return cls(*plain, carried.get("picked"))


def _order(count: int, shuffle: bool, generator: torch.Generator) -> list[int]:
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order if shuffle else list(range(count))


def plan_training(lm: LanguageModel, rows: list[list[int]], settings: TTL, seed: int) -> Training:
    """Measure prompts until enough have passed P0, and lay out which are trained on in which step."""
    generator = torch.Generator().manual_seed(seed)
    before = torch.full((len(rows),), math.inf)
    usable = [i for i in _order(len(rows), settings.shuffle_data, generator) if len(rows[i]) > 1]
    places = settings.ttl_steps * settings.batch_size
    passed: list[int] = []
    for start in range(0, len(usable), SCAN):
        measured = usable[start : start + SCAN]
        losses = prompt_losses(lm, [rows[i] for i in measured])
        if not bool(losses.isfinite().all()):
            raise NotApplicableError(
                "the prompts' perplexity is not finite under the current adapter: start from another"
            )
        before[measured] = losses
        passed += [i for i in measured if before[i] > LOG_P0]
        if len(passed) >= places:
            break
    if not usable:
        raise NotApplicableError("no prompt has two tokens or more: TTL has nothing to learn from")
    if not passed:
        largest, threshold = before[usable].max().exp().item(), math.exp(LOG_P0)
        raise NotApplicableError(
            f"no prompt passes TTL's threshold: largest perplexity {largest:.1f}, threshold {threshold:.1f}"
        )
    schedule = list(passed)
    while len(schedule) < places:
        schedule += [passed[i] for i in _order(len(passed), settings.shuffle_data, generator)]
    return Training(schedule[:places], before, before.clone())


def _fingerprint(lm: LanguageModel, prompts: list[str], settings: TTL, start: Carried, seed: int) -> str:
    depends_on = {"prompts": prompts, "settings": settings.canonical(), "seed": seed, "model": lm.sha256}
    return sha256_bytes(canonical_json({**depends_on, "start": carried_sha256(start)}).encode())


def _step(
    lm: LanguageModel,
    rows: list[list[int]],
    batch: list[int],
    live: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> Tensor:
    """Take one optimiser step and return the batch's losses; a batch without weight changes nothing."""
    optimizer.zero_grad()
    losses = prompt_losses(lm, [rows[i] for i in batch], divisor=len(batch))
    trained = [parameter for parameter in live.values() if parameter.requires_grad]
    norm = nn.utils.clip_grad_norm_(trained, CLIP_NORM)
    if not bool(losses.isfinite().all() and norm.isfinite()):
        rate = optimizer.param_groups[0]["lr"]
        raise NotApplicableError(
            f"TTL diverged (the loss is not finite): learning_rate {rate:g} is too high, take a smaller one"
        )
    optimizer.step()
    return losses


def train_ttl(
    lm: LanguageModel,
    prompts: list[str],
    settings: TTL,
    start: A,
    seed: int,
    *,
    progress: Progress = silent,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 10.0,
) -> A:
    """Return the adapter after exactly ``ttl_steps`` AdamW steps on the prompts' own cross-entropy.

    A step's loss is the sum of S(x)·CE(x) over its batch, divided by the batch's size. Batches go through the
    prompts that pass P0, in their order or, with ``shuffle_data``, in a new seeded order each epoch. Memory
    does not grow with their number. No weight decay: it would pull an aligned adapter towards zero.

    Args:
        lm: the base model; its weights are not touched.
        prompts: unlabelled target prompts.
        settings: steps, learning rate, batch size, shuffling.
        start: the current adapter or soft prompt, or the recorded initialisation.
        seed: of the order of the prompts.
        progress: called after each step.
        checkpoint: file that a killed training goes on from, bit for bit; another training's is overwritten.
        checkpoint_every_s: seconds between two writings of it.

    Returns:
        The trained adapter; its provenance has the steps, the losses (nats per token) and who passed P0.

    Raises:
        NotApplicableError: no prompt passes P0, or the learning rate is so high that the loss is not finite.
        InputError: the checkpoint is damaged.

    Source: CAO-LLM §2.4, G.1.
    """
    rows = [ending(lm, prompt, MAX_TOKENS) for prompt in prompts]
    fingerprint = _fingerprint(lm, prompts, settings, start, seed)
    with lm.adapted(start, trainable=True) as live:
        optimizer = torch.optim.AdamW(list(live.values()), lr=settings.rate, weight_decay=0.0)
        names = Training.names(settings)
        carried = restore_training(checkpoint, fingerprint, live, optimizer, names) if checkpoint else None
        training = Training.of(carried) if carried else _begun(lm, rows, settings, seed, live)
        for parameter, picked in zip(live.values(), () if training.picked is None else training.picked, strict=False):
            parameter.requires_grad_(bool(picked))
        saved = time.monotonic()
        while training.step < settings.ttl_steps:
            place = training.step * settings.batch_size
            batch = training.schedule[place : place + settings.batch_size]
            training.last[batch] = _step(lm, rows, batch, live, optimizer)
            training.step += 1
            if checkpoint and time.monotonic() - saved >= checkpoint_every_s:
                save_training(checkpoint, fingerprint, live, optimizer, training.carried(names))
                saved = time.monotonic()
            progress("test-time learning", training.step, settings.ttl_steps)
        tensors = {name: parameter.detach().cpu().clone() for name, parameter in live.items()}
    made = _provenance(training, start)
    if training.picked is not None:
        made["picked"] = _picked(settings, list(tensors), training.picked)
    return replace(start, tensors=tensors, provenance=made)


def _begun(lm: LanguageModel, rows: list[list[int]], settings: TTL, seed: int, live: dict[str, Tensor]) -> Training:
    """Lay the training out, and pick what it trains where that is not everything."""
    training = plan_training(lm, rows, settings, seed)
    if settings.subset != "all":
        shown = [rows[i] for i in dict.fromkeys(training.schedule[:SCAN])]
        training.picked = as_mask(pick(lm, shown, live, settings.subset, settings.share))
    return training


def _picked(settings: TTL, names: list[str], picked: Tensor) -> str:
    """Say which groups were trained, in short."""
    groups = dict.fromkeys(group_of(name, settings.subset) for name in names)
    chosen = dict.fromkeys(group_of(name, settings.subset) for name, is_in in zip(names, picked, strict=True) if is_in)
    shown = [group.removeprefix(f"{PREFIX}model.") for group in chosen]
    return f"{len(chosen)} of {len(groups)} {settings.subset} trained: {', '.join(shown[:8])}{', …' * (len(shown) > 8)}"


def _provenance(training: Training, start: Carried) -> dict[str, str]:
    seen, measured = sorted(set(training.schedule)), training.before.isfinite()
    return {
        "made_by": "TTL",
        "start": carried_sha256(start),
        "steps": str(training.step),
        "loss_before": f"{training.before[seen].mean().item():.4f}",
        "loss_after": f"{training.last[seen].mean().item():.4f}",
        "passed": f"{int((training.before[measured] > LOG_P0).sum())} of {int(measured.sum())}",
    }
