"""What a run's language model reads before it answers the test part."""

from dataclasses import dataclass

from agent.api.progress import Step
from eval.baselines.descent import Read

LAST = "conclude"
"""The node that answers the test part."""


@dataclass
class Meter:
    """Follows the steps of a run, and what its model reads meanwhile: to answer, to write and to train.

    Attributes:
        read: counts for as long as the run takes.
        tokens: read before the test part; None where the run is not over, or an earlier process began it.
    """

    read: Read
    tokens: int | None = None
    _whole: bool | None = None

    def follow(self, step: Step) -> None:
        """Note whether a run begins with this step or goes on, and what was read before its last node."""
        if self._whole is None:
            self._whole = step.kind == "start"
        if self._whole and (step.kind, step.name) == ("start", LAST):
            self.tokens = self.read.tokens
