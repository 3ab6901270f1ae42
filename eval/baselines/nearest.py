"""The checkpoint of the source whose prompts are nearest to the target's: retrieval in the place of generation.

Source: this project's control.
"""

from dataclasses import dataclass
from typing import ClassVar

from eval.baselines.base import Fixed
from eval.baselines.baseline import Adapted, Origin, Place, Prepared, Reads
from eval.baselines.checkpoints import stored
from eval.baselines.ground import Ground, Target


@dataclass(frozen=True)
class Nearest(Fixed):
    """One source's checkpoint, as the consolidation's folder has it."""

    name = "nearest"
    origin = Origin(paper="this project's control: the nearest source's checkpoint")
    reads: ClassVar[Reads] = "prompts"

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return the checkpoint of the nearest source; what was spent is that one training."""
        source, _ = ground.workshop.nearest(target.task.name, ground.variant, target.seed)
        return stored(ground, [source])
