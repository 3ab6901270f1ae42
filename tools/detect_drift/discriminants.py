"""Linear discriminant analysis with a shrunken covariance: what tells the known tasks apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tools.detect_drift.permutation import Array


@dataclass(frozen=True, eq=False)
class Discriminants:
    """Normal classes with one covariance and equal shares.

    Attributes:
        weights: (C, K).
        offsets: (K,).
    """

    weights: Array
    offsets: Array

    def log_probabilities(self, points: Array) -> Array:
        """Return log P(class | point), (n, K), for (n, C) points."""
        scores = points @ self.weights + self.offsets
        result: Array = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
        return result


def fit(samples: Sequence[Array]) -> Discriminants:
    """Fit classes to their samples.

    Args:
        samples: K arrays (m_k, C), float64.

    Source: Ledoit and Wolf 2004 for each class's covariance, of features scaled to unit variance.
    """
    means = np.stack([rows.mean(0) for rows in samples])
    covariance = np.mean([shrunken_covariance(rows) for rows in samples], axis=0)
    weights = np.linalg.lstsq(covariance, means.T)[0]  # a feature that never varies makes it singular
    return Discriminants(weights, -0.5 * (means * weights.T).sum(1))


def shrunken_covariance(rows: Array) -> Array:
    """Return the covariance of (m, C) rows, (C, C), shrunken towards independence as far as their number asks for.

    Source: Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004, §3.
    """
    (m, c), centred, scale = rows.shape, rows - rows.mean(0), rows.std(0)
    scale[scale <= 1e-14 * np.abs(rows).max(0)] = 1.0  # no variance but that of rounding
    centred /= scale
    covariance = centred.T @ centred / m
    mean = np.trace(covariance) / c
    spread = (covariance**2).sum() / c - mean**2
    noise = ((centred**2).sum(1) ** 2).sum() / (m * m * c) - (covariance**2).sum() / (m * c)
    share = min(noise / spread, 1.0) if spread > 0 else 0.0
    shrunken = (1 - share) * covariance + share * mean * np.eye(c)
    result: Array = shrunken * np.outer(scale, scale)
    return result
