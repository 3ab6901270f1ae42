"""Latent (SLOT): one vector per sample, fitted to the prompt itself on cached hidden states.

The vector δ is added to the last hidden states behind the final norm. It starts at zero and takes a few AdamW
steps down the prompt's own next-token loss; only the LM head is evaluated, never the transformer.

Source: CAO-LLM §2.4, G.5 (family ``Latent``); AdamW's weight decay and eps are those of the SLOT reference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from cao.inference.head_gradient import Logits, nll_and_slope
from cao.inference.scoring import CHUNK_BYTES, SLICE, Move
from cao.machine.linear import linear
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row, Shared
from cao.model.packing import pieces
from cao.strategies.latent import Latent
from cao.types import AdaptedModel, LatentSettings
from tools.apply_strategy.inputs import Inputs
from tools.apply_strategy.latent_capped import CappedPrompt

MAX_STEPS = 20
WEIGHT_DECAY, EPS, BETA1, BETA2 = 1e-8, 1e-5, 0.9, 0.999
KEPT_BLOCKS, KEPT_BLOCKS_OF_MANY = 2, 4
"""Blocks of probabilities that are kept between the steps, and with a vocabulary of more than ``MANY`` tokens."""
MANY = 2**16
WIDEST = 40.0
"""Largest range of W·δ in nats, at which the kept float32 probabilities still hold every token that counts."""


def apply(strategy: Latent, inputs: Inputs) -> AdaptedModel:
    """Change nothing yet: each question's vector is fitted when the question is answered."""
    settings = LatentSettings(slot_steps=strategy.slot_steps, slot_lr=strategy.slot_lr)
    note = f"each question gets its own vector from {settings.slot_steps} steps at rate {settings.slot_lr:g}"
    return inputs.current.model_copy(update={"latent": settings, "note": note})


def moving(latent: LatentSettings | None) -> Move | None:
    """Return what moves hidden states under a Latent strategy, None without one."""
    return None if latent is None else partial(prompt_deltas, latent=latent)


def prompt_deltas(lm: LanguageModel, rows: Sequence[Row], hidden: Tensor, latent: LatentSettings) -> Tensor:
    """Return SLOT's δ of each row, (B, d) float32, fitted to the tokens of its prompt alone.

    Args:
        lm: the model whose head is used.
        rows: B rows.
        hidden: (T, d) the hidden states of their tokens, as ``Shared`` orders them.
        latent: steps and learning rate.
    """
    length = max(0, max(row.prompt for row in rows) - 1)  # the last prompt token has no target inside the prompt
    targets, places = (torch.zeros(len(rows), length, dtype=torch.long) for _ in range(2))
    mask = torch.zeros_like(targets, dtype=torch.bool)
    first = len(lm.virtual)  # of the prompt's own tokens: a soft prompt's have no likelihood
    for i, (row, mine) in enumerate(zip(rows, Shared.of(rows).places, strict=True)):
        if (count := row.prompt - 1 - first) > 0:
            targets[i, :count] = torch.tensor(row.tokens[first + 1 : row.prompt])
            places[i, :count] = torch.tensor(mine[first : row.prompt - 1])
            mask[i, :count] = True
    targets, mask, places = targets.to(hidden.device), mask.to(hidden.device), places.to(hidden.device)
    if lm.paths.head:
        return optimise_delta(hidden[places], targets, mask, lm.head.weight, latent.slot_steps, latent.slot_lr)
    if not lm.paths.behind:
        return optimise_delta_through(lm.logits, hidden[places], targets, mask, latent.slot_steps, latent.slot_lr)
    deltas = torch.zeros(len(rows), hidden.shape[1], device=hidden.device)
    for i in mask.any(1).nonzero()[:, 0].tolist():
        prompt = CappedPrompt(hidden[places[i]][mask[i]], targets[i][mask[i]], lm.head, lm.behind_head)
        deltas[i] = _adamw(prompt.slope, deltas[i : i + 1].clone(), latent.slot_steps, latent.slot_lr)[0]
    return deltas


def optimise_delta(
    hidden: Tensor,
    targets: Tensor,
    mask: Tensor,
    head_weight: Tensor,
    steps: int,
    lr: float,
) -> Tensor:
    """Return each sample's δ after ``steps`` AdamW steps on its own mean next-token loss, from zero.

    Samples do not interact: the loss is the sum of the samples' means, and AdamW works element by element.
    The gradient of one position is W'(softmax(W(h+δ)) − onehot(target)), so no graph is kept through the
    vocabulary. W(h+δ) = Wh + Wδ, and Wδ is the same at all positions of a sample: the large product with the head is
    taken once, and a step costs two rows of the vocabulary a sample. Where the probabilities are too many to be kept,
    what is left of a long prompt takes its product with the head anew in each step: less than one forward pass.

    AdamW divides by the gradient's own size, so δ is of the rate's order even where the gradient is rounding error: two
    implementations in float32 differ there by up to a thousandth, as either does from double precision.

    Args:
        hidden: (B, L, d) last hidden states of the prompts; position i predicts ``targets[:, i]``.
        targets: (B, L) token ids.
        mask: (B, L) bool, the positions whose target lies inside the prompt; nothing else is in the loss.
        head_weight: (V, d) of the LM head; its dtype is that of the products with it.
        steps: T, 0 to 20.
        lr: learning rate of AdamW.

    Returns:
        (B, d), float32, or float64 where the head is. Zero for a sample without targets (a prompt of one token).

    Source: CAO-LLM §2.4, G.5.
    """
    batch, length, width = hidden.shape
    assert targets.shape == mask.shape == (batch, length), (hidden.shape, targets.shape, mask.shape)
    assert head_weight.shape[1] == width, (hidden.shape, head_weight.shape)
    assert 0 <= steps <= MAX_STEPS, steps
    deltas = torch.zeros(batch, width, dtype=_wide(head_weight), device=hidden.device)
    for group in pieces(mask.sum(1).tolist(), _most_kept(head_weight)):
        mine = mask[group]
        owner = torch.arange(len(group), device=hidden.device).repeat_interleave(mine.sum(1))
        prompts = Prompts(hidden[group][mine], targets[group][mine], owner, len(group))
        deltas[group] = _descend(prompts, head_weight, steps, lr)
    return deltas


def optimise_delta_through(
    logits: Logits, hidden: Tensor, targets: Tensor, mask: Tensor, steps: int, lr: float
) -> Tensor:
    """Return what ``optimise_delta`` does, for a head that is more than one product: every step takes all of it.

    Args:
        logits: (M, d) hidden states to logits (M, V).
        hidden: (B, L, d).
        targets: (B, L).
        mask: (B, L) bool.
        steps: T, 0 to 20.
        lr: learning rate of AdamW.

    Returns:
        (B, d) float32.
    """
    assert 0 <= steps <= MAX_STEPS, steps
    deltas = torch.zeros(len(hidden), hidden.shape[2], device=hidden.device)
    for i in mask.any(1).nonzero()[:, 0].tolist():
        states, wanted = hidden[i][mask[i]].float(), targets[i][mask[i]]

        def gradient(delta: Tensor, states: Tensor = states, wanted: Tensor = wanted) -> Tensor:
            return nll_and_slope(states + delta, wanted, logits, gradient=True)[1].mean(0, keepdim=True)

        deltas[i] = _adamw(gradient, deltas[i : i + 1].clone(), steps, lr)[0]
    return deltas


@dataclass(frozen=True)
class Prompts:
    """The positions of b samples, those of a sample next to each other."""

    states: Tensor  # (n, d)
    targets: Tensor  # (n,)
    owner: Tensor  # (n,) the sample of each position, ascending
    count: int  # b

    @property
    def counts(self) -> Tensor:
        """Positions of each sample, (b,)."""
        return self.owner.bincount(minlength=self.count)


def _wide(head_weight: Tensor) -> torch.dtype:
    return torch.promote_types(head_weight.dtype, torch.float32)


def _block(head_weight: Tensor) -> int:
    return max(1, CHUNK_BYTES // (4 * head_weight.shape[0]))


def _most_kept(head_weight: Tensor) -> int:
    """Return at how many positions probabilities are kept between the steps."""
    return (KEPT_BLOCKS_OF_MANY if len(head_weight) > MANY else KEPT_BLOCKS) * _block(head_weight)


def _descend(prompts: Prompts, head_weight: Tensor, steps: int, lr: float) -> Tensor:
    """Return δ of one group of samples, (b, d)."""
    shape = (prompts.count, head_weight.shape[1])
    delta = torch.zeros(shape, dtype=_wide(head_weight), device=prompts.states.device)
    if not steps:
        return delta
    kept = probabilities(prompts.states[: _most_kept(head_weight)], head_weight)
    wanted = mean_targets(prompts, head_weight)
    return _adamw(lambda now: mean_gradient(prompts, now, head_weight, kept, wanted), delta, steps, lr)


def _adamw(gradient: Callable[[Tensor], Tensor], delta: Tensor, steps: int, lr: float) -> Tensor:
    """Return δ after some steps of AdamW; each sample's is moved by itself."""
    first, second = torch.zeros_like(delta), torch.zeros_like(delta)
    for step in range(1, steps + 1):
        slope = gradient(delta)
        first = BETA1 * first + (1 - BETA1) * slope
        second = BETA2 * second + (1 - BETA2) * slope**2
        direction = (first / (1 - BETA1**step)) / ((second / (1 - BETA2**step)).sqrt() + EPS)
        delta = delta * (1 - lr * WEIGHT_DECAY) - lr * direction
    return delta


def probabilities(states: Tensor, head_weight: Tensor) -> Tensor:
    """Return softmax(Wh), (n, V), float32 or wider."""
    kept = torch.empty(len(states), head_weight.shape[0], dtype=_wide(head_weight), device=states.device)
    rows = _block(head_weight)
    for start in range(0, len(states), rows):
        logits = linear(states[start : start + rows].to(head_weight.dtype), head_weight)
        for some, here in zip(torch.split(logits, SLICE), torch.split(kept[start : start + rows], SLICE), strict=True):
            here.copy_(torch.softmax(some, 1, dtype=kept.dtype))  # few enough that they stay in the cache
    return kept


def mean_targets(prompts: Prompts, head_weight: Tensor) -> Tensor:
    """Return each sample's targets as shares of the vocabulary, (b, V)."""
    size = (prompts.count, head_weight.shape[0])
    shares = (1.0 / prompts.counts.to(_wide(head_weight)))[prompts.owner]
    mean = torch.zeros(size, dtype=shares.dtype, device=shares.device)
    return mean.index_put_((prompts.owner, prompts.targets), shares, accumulate=True)


def mean_gradient(prompts: Prompts, delta: Tensor, head_weight: Tensor, kept: Tensor, wanted: Tensor) -> Tensor:
    """Return each sample's mean over positions of (softmax(W(h+δ)) − onehot)·W.

    Probabilities are summed over a sample's positions before the one product with W. The targets are taken off before
    it, too: two large sums would leave their rounding as the gradient.

    Args:
        prompts: b samples of n positions in all.
        delta: (b, d).
        head_weight: (V, d).
        kept: (m, V) softmax(Wh) of the first m positions; the others' are computed anew.
        wanted: (b, V) the targets' shares.

    Returns:
        (b, d), in δ's dtype.
    """
    excess, counts = -wanted, prompts.counts.tolist()
    factor = _reweighting(delta, head_weight) if len(kept) else None
    known = 0 if factor is None else len(kept)
    if factor is not None:
        for sample, rows in enumerate(_split(kept, counts)):
            if len(rows):
                weight = 1 / (counts[sample] * (rows @ factor[sample]))
                excess[sample] += (weight @ rows) * factor[sample]
    size, shares = _block(head_weight), 1.0 / prompts.counts.to(delta.dtype)
    for start in range(known, len(prompts.states), size):
        mine = prompts.owner[start : start + size]
        moved = (prompts.states[start : start + size].to(delta.dtype) + delta[mine]).to(head_weight.dtype)
        found = torch.softmax(linear(moved, head_weight), 1, dtype=delta.dtype)
        excess.index_add_(0, mine, found.mul_(shares[mine].unsqueeze(1)))
    return linear(excess.to(head_weight.dtype), head_weight.T).to(delta.dtype)


def _split(rows: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """Return the rows of each sample, as far as there are any."""
    ends = torch.tensor(counts).cumsum(0).clamp(max=len(rows)).tolist()
    return [rows[start:end] for start, end in pairwise([0, *ends])]


def _reweighting(delta: Tensor, head_weight: Tensor) -> Tensor | None:
    """Return exp(Wδ) but for a factor: softmax(Wh + Wδ) ∝ softmax(Wh)·exp(Wδ).

    Args:
        delta: (b, d).
        head_weight: (V, d).

    Returns:
        (b, V), or None where Wδ reaches so far that a token which float32 has lost might count.
    """
    shift = linear(delta.to(head_weight.dtype), head_weight).to(delta.dtype)
    top = shift.amax(1, keepdim=True)
    if not bool((top - shift.amin(1, keepdim=True) <= WIDEST).all()):  # also where it is not a number
        return None
    return (shift - top).exp_()
