"""What counts as one prompt of a window: what the encoder cannot see, and repeats, are no evidence."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

MIN_PROMPTS = 8
"""Distinct prompts below which no verdict is given."""

MOST_PROMPTS = 512
"""Distinct prompts of a window that are tested; of more, so many are drawn. A reference holds no more either, so the
tests would hardly notice more with a larger window, while encoding it takes most of the time."""

SAME = 1e-6
"""Cosine distance below which two embeddings are of prompts that the encoder cannot tell apart."""


def draw(kept: Sequence[int], seed: int) -> list[int]:
    """Return at most ``MOST_PROMPTS`` of some positions, drawn at random, in the order given."""
    if len(kept) <= MOST_PROMPTS:
        return list(kept)
    chosen = np.random.default_rng(seed).choice(len(kept), MOST_PROMPTS, replace=False)
    return [kept[i] for i in np.sort(chosen)]


def apart(embeddings: Tensor) -> list[int]:
    """Return the rows that no earlier row equals: prompts that differ only where the encoder does not read.

    Args:
        embeddings: (n, C), unit length.
    """
    alike = (embeddings @ embeddings.T).fill_diagonal_(-1).tril() > 1 - SAME
    return [row for row, same in enumerate(alike.any(1).tolist()) if not same]
