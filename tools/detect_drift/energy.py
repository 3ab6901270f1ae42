"""The energy distance of Székely and Rizzo, for one window and for all its relabellings in one matrix product.

For a pooled sample with pairwise distances D and weights w = 1/n in the window and −1/m in the reference, the energy
distance 2·E‖X−Y‖ − E‖X−X'‖ − E‖Y−Y'‖ of the two empirical distributions is the quadratic form −wᵀDw. With
w = c·a − 1/m, where a marks the window's rows and c = 1/n + 1/m, only aᵀDa and the row sums of D depend on which rows
play the window. A reference row that never plays it (because a classifier was trained on it) enters the row sums only.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tools.detect_drift.permutation import Array, Rows, slices

TIE = 1e-6
"""Statistics closer than this share of the mean distance are equal: embeddings differ by 1e-7 between batch sizes."""

CHUNK = 1 << 22
"""Weights held at once (32 MB); larger problems go through the product in slices."""


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the Euclidean distances between rows, (n, m), float64; a sample's distance to itself is exactly zero."""
    assert x.ndim == y.ndim == 2, (x.shape, y.shape)
    assert x.shape[1] == y.shape[1], (x.shape, y.shape)
    between = torch.cdist(x.double(), y.double())
    return between.fill_diagonal_(0.0) if x is y else between


@dataclass(frozen=True, eq=False)
class PairwiseDistances:
    """All distances of a window and a reference.

    Attributes:
        window: (n, n).
        between: (n, m).
        reference: (m, m).
    """

    window: Tensor
    between: Tensor
    reference: Tensor

    @property
    def energy_distance(self) -> float:
        """The energy distance of the two samples, in the units of the points' distances.

        It is that of the empirical distributions (a V-statistic): never negative, and zero exactly when both samples
        hold the same points in the same shares. Two samples of one distribution lie about (1/n + 1/m)·E‖X−X'‖ apart.
        """
        return max((2 * self.between.mean() - self.window.mean() - self.reference.mean()).item(), 0.0)

    @property
    def energy_coefficient(self) -> float:
        """How far the two distributions lie apart, from 0 (equal) to 1 (one point against another); 0 for n < 2.

        Its numerator is unbiased, so it does not depend on the sizes of the samples; it is cut to [0, 1].

        Source: the energy coefficient of inhomogeneity, Székely and Rizzo 2013, §4.
        """
        twice = 2 * self.between.mean().item()
        if len(self.window) < 2 or twice == 0.0:
            return 0.0
        return min(max((twice - spread(self.window) - spread(self.reference)) / twice, 0.0), 1.0)

    @cached_property
    def _row_sums(self) -> tuple[Tensor, Tensor]:
        return self.window.sum(1) + self.between.sum(1), self.between.sum(0) + self.reference.sum(1)

    def relabelled(self, held: Tensor, drawn: Rows) -> Array:
        """Return the energy distance for each draw of the rows that play the window.

        Args:
            held: (h,), reference rows that may play the window; the others always stay in the reference.
            drawn: (B + 1, n), rows of [window, held reference rows].

        Returns:
            (B + 1,), float64.
        """
        n, m = self.between.shape
        across = self.between[:, held]
        inner = torch.cat(
            [torch.cat([self.window, across], 1), torch.cat([across.T, self.reference[held][:, held]], 1)]
        )
        own, other = self._row_sums
        sums = torch.cat([own, other[held]])
        everything = (own.sum() + other.sum()).item()
        weight = 1 / n + 1 / m
        middle = inner.mean()
        single = (inner - middle).float()  # exact 0/1 marks against small numbers: the error stays far below a tie
        values = []
        for part in slices(drawn, max(1, CHUNK // len(inner))):
            rows = torch.from_numpy(part.astype(np.int64))
            marks = torch.zeros(len(rows), len(inner)).scatter_(1, rows, 1.0)
            within = (marks @ single).gather(1, rows).sum(1).double() + middle * n**2
            values.append(2 * weight / m * sums[rows].sum(1) - weight**2 * within)
        result: Array = (torch.cat(values) - everything / m**2).numpy()
        return result


def spread(within: Tensor) -> float:
    """Return the mean of (n, n) distances between two different rows, an unbiased estimate of E‖X−X'‖; 0 for n = 1."""
    return (within.sum() / max(len(within) * (len(within) - 1), 1)).item()
