"""How residuals are normalised before they are cut into tokens, and the exact way back.

Axis letters: K checkpoints, D_l scalars of a layer.

Source: CAO-LLM E.3 (normalise per layer); the statistics that the inverse needs are this project's reading.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

StatisticsMode = Literal["layer", "element"]

_SMALLEST = 1e-12
"""A layer of equal scalars has no standard deviation; this one keeps the division defined."""


@dataclass(frozen=True)
class Statistics:
    """How scalars are normalised before they are cut, and the way back.

    Attributes:
        mode: ``layer``: each checkpoint's own mean and log-std per layer, which travel as outputs of their own,
            z-scored over the checkpoints (the paper's normalisation with our exact inverse); ``element``: the
            element-wise mean of the checkpoints and their spread per layer are constants (as Text-to-LoRA keeps); the
            spread of a single checkpoint is its own size.
        centre: ``layer``: (layers, 2) mean over checkpoints of (mean, log-std); ``element``: (layers, D_l).
        scale: ``layer``: (layers, 2) std of the same; ``element``: (layers, 1).

    Source: CAO-LLM E.3 (normalise per layer; the inverse is not said there).
    """

    mode: StatisticsMode
    centre: Tensor = field(repr=False)
    scale: Tensor = field(repr=False)

    @classmethod
    def fit(cls, mode: StatisticsMode, residuals: Tensor) -> "Statistics":
        """Return the statistics of K checkpoints.

        Args:
            mode: which.
            residuals: (K, layers, D_l).
        """
        assert residuals.ndim == 3, residuals.shape
        if mode == "element":
            centre = residuals.mean(0)
            spread = (residuals - centre).square().mean((0, 2)).sqrt()[:, None]
            size = centre.square().mean(1).sqrt()[:, None]  # a single checkpoint has no spread: its own size, then
            scale = torch.where(spread > _SMALLEST, spread, size)
            return cls(mode, centre, torch.where(scale > _SMALLEST, scale, torch.ones_like(scale)))
        own = torch.stack([torch.stack(layer_statistics(residual), dim=1) for residual in residuals])
        spread = own.std(0, correction=0)
        return cls(mode, own.mean(0), torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def normalise(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalised scalars and the z-scored layer statistics.

        Args:
            residual: (layers, D_l).

        Returns:
            (layers, D_l), and (layers, 2) in mode ``layer`` or (layers, 0).
        """
        if self.mode == "element":
            return (residual - self.centre) / self.scale, residual.new_zeros(len(residual), 0)
        mean, log_std = layer_statistics(residual)
        own = (torch.stack([mean, log_std], dim=1) - self.centre) / self.scale
        return (residual - mean[:, None]) / log_std.exp()[:, None], own

    def restore(self, normal: Tensor, own: Tensor) -> Tensor:
        """Return the residual of ``normalise``'s result; leading batch axes are allowed.

        Args:
            normal: (..., layers, D_l).
            own: (..., layers, 2) in mode ``layer``, (..., layers, 0) otherwise.
        """
        if self.mode == "element":
            return normal * self.scale + self.centre
        restored = own * self.scale + self.centre
        return normal * restored[..., 1:].exp() + restored[..., :1]


def layer_statistics(residual: Tensor) -> tuple[Tensor, Tensor]:
    """Return each layer's mean and log standard deviation.

    Args:
        residual: (layers, D_l).

    Returns:
        Two tensors (layers,).
    """
    mean = residual.mean(1)
    std = (residual - mean[:, None]).square().mean(1).sqrt()
    return mean, std.clamp(min=_SMALLEST).log()
