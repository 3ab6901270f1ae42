"""The checkpoint of the source whose prompts are nearest to the target's: retrieval in the place of generation.

Source: this project's control.
"""

from dataclasses import dataclass
from typing import ClassVar

from eval.baselines.baseline import Reads
from eval.baselines.checkpoints import OfSources
from eval.baselines.ground import Ground


@dataclass(frozen=True)
class Nearest(OfSources):
    """One source's checkpoint, as the consolidation's folder has it."""

    name = "nearest"
    reads: ClassVar[Reads] = "prompts"

    def sources(self, ground: Ground, task: str, seed: int) -> tuple[str, ...]:
        """Return the nearest source."""
        return (ground.workshop.nearest(task, ground.variant, seed)[0],)
