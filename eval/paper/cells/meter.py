"""What a run's language model reads before it answers the test part, counted where it happens."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from agent.api.progress import Step
from cao.model.language_model import LanguageModel

LAST = "conclude"
"""The node that answers the test part."""


@dataclass
class Meter:
    """Follows a run's steps and counts the tokens of it.

    Attributes:
        tokens: that the model read, each time that it read them; None where an earlier process of the run read some.
    """

    tokens: int | None = None
    _begun: bool = False
    _open: bool = True

    def follow(self, step: Step) -> None:
        """Count from a run's first node on, where nothing comes before it, until the test part is answered."""
        if not self._begun and step.kind == "start":
            self.tokens = 0
        self._begun = True
        self._open = self._open and (step.kind, step.name) != ("start", LAST)

    def read(self, ids: Tensor) -> None:
        """Count the ids that went into the model, (…)."""
        if self._open and self.tokens is not None:
            self.tokens += ids.numel()


@contextmanager
def metered(lm: LanguageModel) -> Iterator[Meter]:
    """Count what a language model reads: to answer, to write and to train, with the padding of a batch."""
    meter = Meter()

    def read(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        meter.read(given[0])

    hook = lm.model.get_input_embeddings().register_forward_pre_hook(read)
    try:
        yield meter
    finally:
        hook.remove()
