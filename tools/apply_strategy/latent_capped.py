"""Latent where something is done to the head's products: soft-capping, a scale, a bias.

W(h + δ) = Wh + Wδ holds there too, so the product of all positions with the head is taken once. What lies behind it is
done anew in each step, with its own gradient, which is summed over the positions before the one product back. A step
then costs two rows of the vocabulary a sample and passes over the logits, never the product of all positions.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cao.inference.head_gradient import BLOCK

Behind = Callable[[Tensor], Tensor]
"""(M, V) products of the head to (M, V) logits, such as ``LanguageModel.behind_head``."""

KEPT = 4 * BLOCK
"""Positions whose products are kept between the steps; those of a longer prompt are taken anew."""


class CappedPrompt:
    """One prompt's loss as a function of its δ.

    Attributes:
        states: (n, d) hidden states.
        targets: (n,) token ids.
        head: from hidden states to products.
        behind: from products to logits.
    """

    def __init__(self, states: Tensor, targets: Tensor, head: nn.Linear, behind: Behind) -> None:
        """Take the products that are kept."""
        self.states, self.targets, self.head, self.behind = states, targets, head, behind
        self._kept = [self._products(some) for some in torch.split(states[:KEPT], BLOCK)]

    def _products(self, states: Tensor) -> Tensor:
        with torch.no_grad():
            products: Tensor = self.head(states.to(self.head.weight.dtype)).float()
        return products

    def slope(self, delta: Tensor) -> Tensor:
        """Return the gradient of the prompt's mean next-token loss by δ.

        Args:
            delta: (1, d).

        Returns:
            (1, d) float32.
        """
        weight = self.head.weight
        shift = F.linear(delta.to(weight.dtype), weight).float()
        excess = torch.zeros_like(shift)
        blocks = zip(torch.split(self.states, BLOCK), torch.split(self.targets, BLOCK), strict=True)
        for number, (states, targets) in enumerate(blocks):
            products = self._kept[number] if number < len(self._kept) else self._products(states)
            with torch.inference_mode(False), torch.enable_grad():
                moved = (products + shift).clone().requires_grad_()
                loss = F.cross_entropy(self.behind(moved).float(), targets.clone(), reduction="sum")
                (gradient,) = torch.autograd.grad(loss, moved)
            excess += gradient.sum(0)
        return F.linear(excess.to(weight.dtype) / len(self.targets), weight.T).float()
