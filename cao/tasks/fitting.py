"""Sizes that fit a small file: which part of a run gets how many of its questions.

Test gives first, down to as many as reward has; then support, reward and test shrink together, as 1 : 3 : 3. So 328
questions and more give the default 32, 96 and 200, of 300 test gets 172, and 140 give 20, 60 and 60.
"""

from collections.abc import Collection, Mapping
from typing import Literal

_Part = Literal["train", "support", "reward", "test"]
LEAST_FITTED: dict[_Part, int] = {"support": 8, "reward": 24, "test": 24}
"""What a part is never cut below; a race measures in blocks of 24."""
_WEIGHTS: dict[_Part, int] = {"support": 1, "reward": 3, "test": 3}


def fitting_sizes(total: int, asked: Mapping[_Part, int], free: Collection[_Part]) -> dict[_Part, int] | None:
    """Return the sizes of a run on a number of questions.

    Args:
        total: questions.
        asked: part → its size where there are enough.
        free: parts that may be cut; the others keep their size.

    Returns:
        Part → size, ``total`` in all at most; None where a part would fall below ``LEAST_FITTED``.
    """
    sizes = dict(asked)
    open_parts = [part for part in asked if part in free]
    while open_parts:
        rest = total - sum(size for part, size in sizes.items() if part not in open_parts)
        weight = sum(_WEIGHTS[part] for part in open_parts)
        shares = {part: rest * _WEIGHTS[part] // weight for part in open_parts}
        capped = [part for part in open_parts if shares[part] >= asked[part]]
        if not capped:
            sizes |= shares
            sizes[open_parts[-1]] += rest - sum(shares.values())
            break
        open_parts = [part for part in open_parts if part not in capped]
    fits = sum(sizes.values()) <= total
    return sizes if fits and all(sizes[part] >= min(LEAST_FITTED[part], asked[part]) for part in asked) else None
