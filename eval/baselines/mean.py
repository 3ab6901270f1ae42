"""The mean of the sources' checkpoints: what all tasks share, whatever the target.

Source: this project's control.
"""

from dataclasses import dataclass
from typing import ClassVar

from eval.baselines.baseline import Reads
from eval.baselines.checkpoints import OfSources
from eval.baselines.ground import Ground


@dataclass(frozen=True)
class Mean(OfSources):
    """A and B averaged over sources' checkpoints, which all start from one initialisation."""

    name = "mean"
    reads: ClassVar[Reads] = "nothing"

    @classmethod
    def pool(cls, ground: Ground, task: str) -> tuple[str, ...]:
        """Return the sources of the control of the same name among generated adapters; not all are the generator's."""
        return ground.workshop.mean_sources(task, ground.variant)

    def sources(self, ground: Ground, task: str, seed: int) -> tuple[str, ...]:
        """Return all of them."""
        return self.pool(ground, task)
