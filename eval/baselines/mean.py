"""The mean of the sources' checkpoints: what all tasks share, whatever the target.

Source: this project's control.
"""

from dataclasses import dataclass
from typing import ClassVar

from eval.baselines.base import Fixed
from eval.baselines.baseline import Adapted, Origin, Place, Prepared, Reads
from eval.baselines.checkpoints import stored
from eval.baselines.ground import Ground, Target


@dataclass(frozen=True)
class Mean(Fixed):
    """A and B averaged over the sources' checkpoints, which all start from one initialisation."""

    name = "mean"
    origin = Origin(paper="this project's control: the mean of the sources' checkpoints")
    reads: ClassVar[Reads] = "nothing"

    def prepare(self, ground: Ground, place: Place) -> Prepared:
        """Return the mean adapter's tensors, and what all checkpoints took."""
        made = stored(ground, ground.variant.sources)
        assert made.weights is not None
        return Prepared(made.weights.tensors, made.spent)

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return the mean adapter."""
        return Adapted(ground.full(prepared.tensors, "mean of the sources' checkpoints"))
