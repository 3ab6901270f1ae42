"""Matrices of independent normal weights whose mean and spread are products of two low-rank halves.

Axis letters: r rank, o outputs, i inputs.

Source: Zhang et al., ABMLL (2025); the prior is that of Ravi and Beatson, ABML (2019).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cao.model.adapters import LoraWeights

Halves = dict[str, Tensor]
"""Name of an adapter's tensor → (r, i) or (o, r)."""

FLOOR = 1e-6
"""Added to every spread. Source: CAO-LLM H."""


def spread(b: Tensor, a: Tensor, offset: float) -> Tensor:
    """Return the standard deviations of a matrix, (o, i): softplus(B·A + offset) + 1e-6.

    Args:
        b: (o, r).
        a: (r, i).
        offset: c.
    """
    return F.softplus(b @ a + offset) + FLOOR


def divergence(mean_q: Tensor, spread_q: Tensor, mean_p: Tensor, spread_p: Tensor) -> Tensor:
    """Return KL(q‖p) of independent normals in nats, summed over all entries.

    Args:
        mean_q: any shape, and so the others.
        spread_q: above 0.
        mean_p: of what is diverged from.
        spread_p: above 0.
    """
    ratio = (spread_q / spread_p).square()
    away = ((mean_q - mean_p) / spread_p).square()
    return 0.5 * (ratio + away - 1 - ratio.log()).sum()


def prior_energy(mean: Tensor, spread: Tensor, shape: float, rate: float) -> Tensor:
    """Return −log p of means and spreads in nats, summed: means standard normal, precisions 1/σ² Gamma.

    q(θ) is a point, so this is KL(q(θ)‖p(θ)) up to a constant.

    Args:
        mean: any shape, and so the spreads.
        spread: above 0.
        shape: of the Gamma.
        rate: of the Gamma.
    """
    precision = spread.square().reciprocal()
    normal = 0.5 * (mean.square() + math.log(2 * math.pi))
    gamma = rate * precision - (shape - 1) * precision.log() - shape * math.log(rate) + math.lgamma(shape)
    return (normal + gamma).sum()


@dataclass(frozen=True)
class Pair:
    """A mean and a spread for every adapted matrix.

    Attributes:
        mean: halves of the means.
        spread: halves of the spreads.
    """

    mean: Halves
    spread: Halves

    def named(self) -> dict[str, Tensor]:
        """Return all tensors under one naming."""
        means = {f"mean/{name}": value for name, value in self.mean.items()}
        return means | {f"spread/{name}": value for name, value in self.spread.items()}

    @classmethod
    def of(cls, named: Mapping[str, Tensor]) -> "Pair":
        """Return the pair of tensors that ``named`` gave."""
        parts = {kind: _under(named, f"{kind}/") for kind in ("mean", "spread")}
        return cls(parts["mean"], parts["spread"])

    def module(self, name: str, scale: float, offset: float) -> tuple[Tensor, Tensor]:
        """Return a matrix's means (o, i), (α/r)·B·A, and its spreads (o, i)."""
        a, b = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
        return scale * self.mean[b] @ self.mean[a], spread(self.spread[b], self.spread[a], offset)


def _under(named: Mapping[str, Tensor], prefix: str) -> Halves:
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def first_pair(start: LoraWeights, scale: float, seed: int) -> Pair:
    """Return halves that are all drawn from a normal distribution.

    Args:
        start: for names and shapes.
        scale: standard deviation.
        seed: of the draw.
    """
    generator, halves = torch.Generator().manual_seed(seed), list[Halves]()
    for _ in range(2):
        shapes = {name: start.tensors[name].shape for name in sorted(start.tensors)}
        halves.append({name: scale * torch.randn(shape, generator=generator) for name, shape in shapes.items()})
    return Pair(halves[0], halves[1])
