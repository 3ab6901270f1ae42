"""The mean of the sources' checkpoints: what all tasks share, whatever the target.

Source: this project's control.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from cao.types import Record
from eval.baselines.base import Nothing
from eval.baselines.baseline import Adapted, Baseline, Budget, Origin, Place, Prepared, Reads
from eval.baselines.checkpoints import stored
from eval.baselines.ground import Ground, Target


@dataclass(frozen=True)
class Mean(Baseline):
    """A and B averaged over the sources' checkpoints, which all start from one initialisation."""

    name = "mean"
    origin = Origin(paper="this project's control: the mean of the sources' checkpoints")
    reads: ClassVar[Reads] = "nothing"
    rated = False

    @classmethod
    def paper(cls) -> Self:
        """Return the one there is."""
        return cls()

    @classmethod
    def equal(cls, budget: Budget, rate: float, ground: Ground) -> Self:
        """Return the one there is: its checkpoints are those that generators are trained on."""
        return cls()

    def settings(self) -> Record:
        """Return nothing."""
        return Nothing()

    def prepare(self, ground: Ground, place: Place) -> Prepared:
        """Return the mean adapter's tensors, and what all checkpoints took."""
        made = stored(ground, ground.variant.sources)
        assert made.weights is not None
        return Prepared(made.weights.tensors, made.spent)

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return the mean adapter."""
        return Adapted(ground.full(prepared.tensors, "mean of the sources' checkpoints"))
