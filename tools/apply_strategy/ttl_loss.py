"""The loss of TTL: each prompt's mean next-token cross-entropy, its weight, and the gradient.

S is computed from the forward pass that also gives the loss, and no gradient flows through it. It is clamped
at ``MAX_WEIGHT``: one garbled prompt must not outweigh the others.

Source: CAO-LLM §2.4, G.1 (family ``TTL``); λ, P0 and the cross-entropy in place of P are the TLM reference's.
"""

import math

import torch
from torch import Tensor, nn

from cao.inference.head_gradient import nll_and_slope
from cao.model.language_model import LanguageModel
from cao.model.packing import packed_hidden, pieces

LAMBDA = 0.1
LOG_P0 = 3.0
PERPLEXITY_THRESHOLD = math.exp(LOG_P0)
"""P0; prompts above it take part."""
MAX_WEIGHT = 1.0
"""Ten times the weight at the threshold; reached at P = 10·P0, about 201."""
PIECE_TOKENS = 256
"""Tokens of one forward pass: bounds the activations, whatever the batch."""
LOGIT_ELEMENTS = 2**24
"""Rows times vocabulary of one block of logits."""
SLICE = 32
"""Rows that are normalised at once."""


def sample_weight(log_perplexity: Tensor) -> Tensor:
    """Return S(x) = λ·exp(log P − log P0)·1[P > P0], at most ``MAX_WEIGHT``, without gradient.

    Args:
        log_perplexity: (B,), mean next-token cross-entropy of each prompt in nats.

    Returns:
        (B,), same dtype.

    Source: CAO-LLM §2.4, G.1; λ = 0.1 and log P0 = 3 in the TLM reference.
    """
    excess = log_perplexity.detach() - LOG_P0
    weight = LAMBDA * excess.clamp(max=math.log(MAX_WEIGHT / LAMBDA)).exp()
    return torch.where(excess > 0, weight, torch.zeros_like(weight))


def token_nll(hidden: Tensor, targets: Tensor, head: nn.Module, *, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return each token's cross-entropy and its gradient by the hidden state, a block of logits at a time.

    Neither the logits nor their graph outlive a block, so the memory does not grow with the number of tokens;
    and the weight of a prompt may be decided after its loss is known, without a second pass.

    Args:
        hidden: (n, d) last hidden states, detached.
        targets: (n,) token ids.
        head: (…, d) to logits (…, V), frozen.
        gradient: whether the gradient is wanted.

    Returns:
        (n,) float32 in nats, and (n, d) in ``hidden``'s dtype, empty where it is not wanted.
    """
    assert hidden.ndim == 2, hidden.shape
    assert targets.shape == hidden.shape[:1], (hidden.shape, targets.shape)
    weight = next(head.parameters())
    rows = max(1, LOGIT_ELEMENTS // weight.shape[0])
    losses, gradients = [], []
    for start in range(0, len(hidden), rows):
        with torch.no_grad():
            logits = head(hidden[start : start + rows].to(weight.dtype))
            for begin in range(0, len(logits), SLICE):  # few enough that their float32 stays in the cache
                some = logits[begin : begin + SLICE]
                wanted = targets[start + begin : start + begin + len(some), None]
                logs = some.log_softmax(1, dtype=torch.promote_types(some.dtype, torch.float32))
                losses.append(-logs.gather(1, wanted)[:, 0])
                if gradient:  # softmax − onehot, in the logits' place
                    one = torch.ones_like(wanted, dtype=logs.dtype)
                    some.copy_(logs.exp_().scatter_add_(1, wanted, -one))
            if gradient:
                gradients.append((logits @ weight).to(hidden.dtype))
    return torch.cat(losses), torch.cat(gradients) if gradient else hidden.new_empty(0)


def prompt_losses(lm: LanguageModel, rows: list[list[int]], *, divisor: int = 0) -> Tensor:
    """Return each prompt's mean next-token cross-entropy, and leave the gradients of Σ S·CE / divisor.

    Both come from the same forward pass; prompts share one. Under a soft prompt its virtual tokens stand before each
    prompt, and the tokens that the loss is of are the same ones.

    Args:
        lm: the model, dressed in the adapter to be judged or trained.
        rows: token ids of B prompts, each of 2 tokens or more.
        divisor: what the weighted sum is divided by; 0 for the losses alone, without gradients.

    Returns:
        (B,) float32, nats per token: log P of each prompt.
    """
    losses, before = torch.zeros(len(rows)), len(lm.virtual)
    for piece in pieces([before + len(row) for row in rows], PIECE_TOKENS):
        texts = [lm.virtual + rows[i] for i in piece]
        counts = torch.tensor([len(rows[i]) - 1 for i in piece])
        places = [torch.arange(len(text)) for text in texts]
        kept = torch.cat([(before <= place) & (place < len(place) - 1) for place in places]).to(lm.device)
        targets = torch.tensor([token for i in piece for token in rows[i][1:]], device=lm.device)
        owner = torch.arange(len(texts)).repeat_interleave(counts)
        with torch.set_grad_enabled(bool(divisor)), lm.mixed_precision():
            hidden = packed_hidden(lm, texts)
        states = hidden.detach()[kept]
        if lm.paths.head:
            tokens, slopes = token_nll(states, targets, lm.head, gradient=bool(divisor))
        else:
            tokens, slopes = nll_and_slope(states, targets, lm.logits, gradient=bool(divisor))
        mean = torch.zeros(len(piece)).index_add_(0, owner, tokens.cpu()) / counts
        losses[piece] = mean
        share = sample_weight(mean) / (counts * max(divisor, 1))
        if divisor and bool(mean.isfinite().all()) and bool((share > 0).any()):
            slope = torch.zeros_like(hidden)
            slope[kept] = slopes * share[owner].unsqueeze(1).to(slopes)
            torch.autograd.backward(hidden, slope)
    return losses
