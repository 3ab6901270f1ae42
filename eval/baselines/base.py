"""The base model as it is. Source: CAO-LLM Table 2, ``Base``."""

from dataclasses import dataclass
from typing import ClassVar, Self

from cao.types import Record
from eval.baselines.baseline import Adapted, Baseline, Budget, Place, Prepared, Reads
from eval.baselines.ground import Ground, Target


class Nothing(Record):
    """No hyper-parameters."""


@dataclass(frozen=True)
class Fixed(Baseline):
    """A method without hyper-parameters: the same whatever the rules and the budget."""

    rated = False

    @classmethod
    def paper(cls) -> Self:
        """Return the one there is."""
        return cls()

    @classmethod
    def equal(cls, budget: Budget, rate: float, ground: Ground) -> Self:
        """Return the one there is; checkpoints that it takes are those that generators are trained on."""
        return cls()

    def settings(self) -> Record:
        """Return nothing."""
        return Nothing()


@dataclass(frozen=True)
class Base(Fixed):
    """The base model without an adapter."""

    name = "base"
    reads: ClassVar[Reads] = "nothing"

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return no adapter."""
        return Adapted(None)
