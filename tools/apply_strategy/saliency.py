"""Which layers or modules TTL adapts, where it is to adapt some: those that its own loss asks to change the most.

The groups are the decoder's layers or the modules that carry LoRA. With L the loss of one TTL step over the first
prompts that are trained on, under the weights that the training starts from, the saliency of a group g is the mean
square of the gradient over its LoRA parameters:

    s_g = 1/|g| · Σ_{θ ∈ g} (∂L/∂θ)²

The mean makes modules of different sizes comparable. The ⌈share·G⌉ groups of the largest s_g are trained, of equals
those that come first in the network; the others keep their start weights, bit for bit. No label is read.

Source: CAO-LLM §5 names parameter subsets as future work; this definition is this project's.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cao.model.language_model import LanguageModel
from cao.strategies.ttl import Subset
from tools.apply_strategy.ttl_loss import prompt_losses

_LAYER = re.compile(r"^(.*?\.\d+)\.")
_MODULE = re.compile(r"^(.*)\.lora_")


def group_of(name: str, subset: Subset) -> str:
    """Return the group of a LoRA parameter: its layer, or its module.

    Args:
        name: the parameter's PEFT name.
        subset: ``layers`` or ``modules``.
    """
    found = (_LAYER if subset == "layers" else _MODULE).match(name)
    return found[1] if found else name


def saliencies(gradients: Mapping[str, Tensor | None], subset: Subset) -> dict[str, float]:
    """Return each group's saliency, in the order of the network.

    Args:
        gradients: a parameter's name → its gradient, None where it has none; float32.
        subset: what the groups are.
    """
    squares, sizes = defaultdict[str, float](float), defaultdict[str, int](int)
    for name, gradient in gradients.items():
        group = group_of(name, subset)
        squares[group] += 0.0
        if gradient is not None:
            squares[group] += float(gradient.detach().double().square().sum())
            sizes[group] += gradient.numel()
    return {group: total / max(1, sizes[group]) for group, total in squares.items()}


def most_salient(saliency: Mapping[str, float], share: float) -> list[str]:
    """Return the ⌈share·G⌉ groups of the largest saliency, in their own order."""
    wanted = math.ceil(share * len(saliency) - 1e-9)
    ranked = sorted(saliency, key=lambda group: -saliency[group])  # stable: of equals the first
    chosen = set(ranked[: max(1, wanted)])
    return [group for group in saliency if group in chosen]


def pick(
    lm: LanguageModel, rows: Sequence[list[int]], live: Mapping[str, Tensor], subset: Subset, share: float
) -> dict[str, bool]:
    """Return for each LoRA parameter whether its group is trained.

    Args:
        lm: dressed in the start weights, trainable.
        rows: token ids of the prompts that saliency is measured on.
        live: the parameters by name; their gradients are left empty.
        subset: what the groups are.
        share: of the groups, in (0, 1].
    """
    prompt_losses(lm, list(rows), divisor=len(rows))
    found = saliencies({name: parameter.grad for name, parameter in live.items()}, subset)
    for parameter in live.values():
        parameter.grad = None
    chosen = set(most_salient(found, share))
    return {name: group_of(name, subset) in chosen for name in live}


def as_mask(picked: Mapping[str, bool]) -> Tensor:
    """Return the choice as a training's checkpoint holds it: (parameters,) int64."""
    return torch.tensor([int(trained) for trained in picked.values()])
