"""The cross-entropy of hidden states through a head that is more than one product, and its gradient, by autograd."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Logits = Callable[[Tensor], Tensor]
"""(M, d) hidden states to (M, V) logits, such as ``LanguageModel.logits``."""

BLOCK = 128
"""Positions that go through the head together: with a vocabulary of 262,144, float32 logits of 134 MB."""


def nll_and_slope(hidden: Tensor, targets: Tensor, logits: Logits, *, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return each token's cross-entropy, and its gradient by the hidden state.

    Args:
        hidden: (n, d) last hidden states.
        targets: (n,) token ids.
        logits: the head, with what the architecture does behind it.
        gradient: whether the gradient is wanted.

    Returns:
        (n,) float32 in nats, and (n, d) in ``hidden``'s dtype, zero where it is not wanted.
    """
    parts = [
        _block(some, wanted, logits, gradient)
        for some, wanted in zip(torch.split(hidden, BLOCK), torch.split(targets, BLOCK), strict=True)
    ]
    losses, slopes = zip(*parts, strict=True) if parts else ((hidden.new_zeros(0),), (hidden,))
    return torch.cat(losses), torch.cat(slopes)


def _block(hidden: Tensor, targets: Tensor, logits: Logits, gradient: bool) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False), torch.set_grad_enabled(gradient):
        states = hidden.detach().clone().requires_grad_(gradient)
        losses = F.cross_entropy(logits(states).float(), targets.clone(), reduction="none")
        slope = torch.autograd.grad(losses.sum(), states)[0] if gradient else torch.zeros_like(states)
    return losses.detach(), slope
