"""The checkpoint of the source whose prompts are nearest to the target's: retrieval in the place of generation.

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
class Nearest(Baseline):
    """One source's checkpoint, as the consolidation's folder has it."""

    name = "nearest"
    origin = Origin(paper="this project's control: the nearest source's checkpoint")
    reads: ClassVar[Reads] = "prompts"
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

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return the checkpoint of the nearest source; what was spent is that one training."""
        source, _ = ground.workshop.nearest(target.task.name, ground.variant, target.seed)
        return stored(ground, [source])
