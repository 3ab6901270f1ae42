"""How large and how sparse an adapter is, and where its change lies.

The paper states sparsity without a threshold, and norms without saying of what. Its L1 and L2 say it: L1/L2 is at most
√n for n numbers, and Table 4's first row has 4,369, so n is 19 million or more. A and B of rank 8 on q, v and o of
Qwen2.5-0.5B have fewer than two million, ΔW of those modules 41 million. So these are figures of ΔW = (α/r)·B·A.

Axis letters: L layers, m modules of a layer.

Source: CAO-LLM B.2, B.3; the thresholds are this project's.
"""

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from cao.errors import NotApplicableError
from cao.model.adapters import LoraWeights
from cao.model.cosines import gram
from cao.types import Record

ABSOLUTE = 1e-6
RELATIVE = 0.01
"""An entry counts as zero below the first, and apart from that below this share of the root mean square of all."""

_LAYER = re.compile(r"\.layers\.(\d+)\.")


class Sizes(Record):
    """Figures of one adapter's ΔW, all modules together.

    Attributes:
        weights: n, entries.
        absolute: share of entries below ``ABSOLUTE``.
        relative: share of entries below ``RELATIVE`` times their root mean square.
        l1: sum of magnitudes.
        l2: root of the sum of squares.
        largest: magnitude.
        factors: share of entries of A and B together below ``ABSOLUTE``.
    """

    weights: int
    absolute: float
    relative: float
    l1: float
    l2: float
    largest: float
    factors: float

    @property
    def spread(self) -> float:
        """L1 / (L2·√n): 1 where all magnitudes are equal, √(2/π) for normal entries; 0 for no change at all."""
        return self.l1 / (self.l2 * math.sqrt(self.weights)) if self.l2 else 0.0


def part_of(weights: LoraWeights, modules: Collection[str]) -> LoraWeights:
    """Return what an adapter has on some kinds of modules.

    Args:
        weights: the adapter.
        modules: their last names.

    Raises:
        NotApplicableError: it has none of them.
    """
    kept = {module for module in weights.modules() if place_of(module)[1] in modules}
    if not kept:
        raise NotApplicableError(f"the adapter has none of {', '.join(sorted(modules))}")
    tensors = {name: tensor for name, tensor in weights.tensors.items() if name.rsplit(".lora_", 1)[0] in kept}
    return replace(weights, targets=tuple(t for t in weights.targets if t in modules), tensors=tensors)


def delta(weights: LoraWeights, module: str) -> Tensor:
    """Return ΔW of one module, (out, in) float32.

    Args:
        weights: the adapter.
        module: its PEFT prefix.
    """
    a, b = weights.tensors[f"{module}.lora_A.weight"], weights.tensors[f"{module}.lora_B.weight"]
    return (weights.alpha / weights.rank) * (b.float() @ a.float())


def deltas(weights: LoraWeights) -> Iterator[Tensor]:
    """Yield ΔW of each module, one at a time: all of them together would be the size of the model."""
    for module in weights.modules():
        yield delta(weights, module)


def sizes(weights: LoraWeights) -> Sizes:
    """Return the figures of an adapter."""
    halves = {name: [weights.tensors[f"{name}.lora_{half}.weight"] for half in "BA"] for name in weights.modules()}
    count = sum(len(b) * a.shape[1] for b, a in halves.values())
    l2 = math.sqrt(max(0.0, float(gram([weights])[0, 0])))
    limit = RELATIVE * l2 / math.sqrt(count)
    absolute = relative = l1 = largest = 0.0
    for change in deltas(weights):
        magnitudes = change.abs_()
        absolute += int((magnitudes < ABSOLUTE).sum())
        relative += int((magnitudes < limit).sum())
        l1 += float(magnitudes.sum(dtype=torch.float64))
        largest = max(largest, float(magnitudes.max()))
    factors = [half for pair in halves.values() for half in pair]
    small = sum(int((half.abs() < ABSOLUTE).sum()) for half in factors)
    return Sizes(
        weights=count,
        absolute=absolute / count,
        relative=relative / count,
        l1=l1,
        l2=l2,
        largest=largest,
        factors=small / sum(half.numel() for half in factors),
    )


def place_of(module: str) -> tuple[int, str]:
    """Return the layer of a module, and its last name."""
    found = _LAYER.search(module)
    return int(found.group(1)) if found else 0, module.rsplit(".", 1)[-1]


def signature(weights: LoraWeights) -> dict[str, list[float]]:
    """Return the Frobenius norm of ΔW, layer by layer, for each kind of module: an adapter's signature.

    Norms come from the r x r products of the halves; no ΔW is made.
    """
    found: dict[str, dict[int, float]] = {}
    for module in weights.modules():
        layer, name = place_of(module)
        a, b = (weights.tensors[f"{module}.lora_{half}.weight"].double() for half in "AB")
        square = float(((a @ a.T) * (b.T @ b)).sum()) * (weights.alpha / weights.rank) ** 2
        found.setdefault(name, {})[layer] = math.sqrt(max(0.0, square))
    return {name: [norms[layer] for layer in sorted(norms)] for name, norms in found.items()}


def pooled(change: Tensor, side: int) -> Tensor:
    """Return a matrix at no more than ``side`` rows and columns: of each block the entry of the largest magnitude.

    Args:
        change: (out, in).
        side: rows and columns of what is returned, at most.

    Returns:
        (rows, columns), signs kept.
    """
    high, wide = (max(1, -(-length // side)) for length in change.shape)
    padded = torch.nn.functional.pad(change, (0, -change.shape[1] % wide, 0, -change.shape[0] % high))
    blocks = padded.unfold(0, high, high).unfold(1, wide, wide).flatten(2)
    return blocks.gather(2, blocks.abs().argmax(2, keepdim=True)).squeeze(2)
