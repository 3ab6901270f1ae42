"""Does the order of a window carry information? Every test here assumes that it does not."""

import numpy as np
from torch import Tensor

ORDER_LEVEL = 0.01
"""p-value of the order at which a report warns."""


def order_test(embeddings: Tensor, permutations: int, seed: int) -> float:
    """Test whether neighbouring prompts are more alike than others.

    Rows of a file are often twins, and a stream has sessions; then a window holds fewer independent prompts than it
    seems to, and an undrifted one alarms too often.

    Args:
        embeddings: (n, C), unit length, in the order in which the prompts came; n ≥ 3.
        permutations: B, of the order.
        seed: of the permutations.

    Returns:
        The one-sided p-value (k+1)/(B+1) of the mean cosine of neighbours.
    """
    assert len(embeddings) >= 3, embeddings.shape
    cosines = (embeddings @ embeddings.T).double().numpy()
    rng = np.random.default_rng(seed)
    observed = np.diagonal(cosines, 1).mean()
    orders = rng.permuted(np.tile(np.arange(len(cosines)), (permutations, 1)), axis=1)
    reached = int((cosines[orders[:, :-1], orders[:, 1:]].mean(1) >= observed - 1e-6).sum())
    return (reached + 1) / (permutations + 1)
