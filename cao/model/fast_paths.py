"""Which ways of computing, faster than a model's own forward, may be taken for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FastPaths:
    """What agrees with the model's own forward; where nothing is known, nothing does.

    Attributes:
        layers: the layers as ``cao.model.packed_forward`` writes them out.
        trees: texts side by side in one row, each kept to itself by a mask.
        head: logits are the hidden states times the head's weights, with nothing added or done to them behind it.
        longest: tokens of a row up to which ``layers`` and ``trees`` hold: a window of attention counts places in the
            row, not in the text, and some rotary positions depend on how long the row is. 0 where no row is too long.
        behind: logits are made of the head's products, capped or scaled; known only where ``head`` is not so.
    """

    layers: bool = False
    trees: bool = False
    head: bool = False
    longest: int = 0
    behind: bool = False

    def fit(self, tokens: int) -> bool:
        """Return whether ``tokens`` tokens of several texts may lie in one row."""
        return self.trees and (not self.longest or tokens <= self.longest)
