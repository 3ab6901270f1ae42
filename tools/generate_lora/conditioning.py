"""From a task's prompts to an adapter: every caller goes through ``condition``, so that all use the same prompts.

Source: CAO-LLM §2.2, E.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from cao.errors import InputError
from cao.model.adapters import LoraWeights
from tools.generate_lora.generator import TrainedGenerator
from tools.generate_lora.prompts import usable_prompts

__all__ = ["Conditioning", "Generator", "PromptEncoder", "condition"]


class Generator(Protocol):
    """What makes adapters for one base model: a ``TrainedGenerator``, or another thing in a test."""

    @property
    def prompts(self) -> int:
        """N, the prompts that it was built for."""
        ...

    def generate(self, conditioning: Tensor, mask: Tensor) -> LoraWeights:
        """Return an adapter.

        Args:
            conditioning: (n, L, C) float32 token states of the frozen encoder, padding zero.
            mask: (n, L) bool, True where there is a token.

        Source: CAO-LLM §2.2, E.
        """
        ...


class PromptEncoder(Protocol):
    """What gives token states: the frozen encoder, or prompts that it has encoded already."""

    @property
    def sha256(self) -> str:
        """Hash of the encoder's weights."""
        ...

    def tokens(self, prompts: list[str]) -> list[int]:
        """Return the number of tokens of each prompt before truncation."""
        ...

    def condition(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Return token states (n, L, C) float32, padding zero, and mask (n, L) bool."""
        ...


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What a generator reads of a task's prompts.

    Attributes:
        generator: what makes the adapters.
        states: (n, L, C) float32 token states of the prompts that are used, padding zero.
        mask: (n, L) bool.
        kept: positions of the prompts that are used, in the order given.
        caveats: what was left out or is doubtful, in sentences without their full stop.
    """

    generator: Generator
    states: Tensor
    mask: Tensor
    kept: tuple[int, ...]
    caveats: tuple[str, ...]

    def adapter(self, rows: Sequence[int] | None = None) -> LoraWeights:
        """Return the generated adapter.

        Args:
            rows: which of the n prompts to use; None for all.
        """
        if rows is None:
            return self.generator.generate(self.states, self.mask)
        chosen = list(rows)
        return self.generator.generate(self.states[chosen], self.mask[chosen])


def condition(prompts: Sequence[str], generator: Generator, encoder: PromptEncoder) -> Conditioning:
    """Encode the prompts that an adapter may be made from: blank and repeated ones are left out.

    Args:
        prompts: texts of one task.
        generator: what makes the adapter.
        encoder: what the prompts are encoded by.

    Raises:
        InputError: no prompt is left, or the generator was trained on another encoder's states.

    Source: CAO-LLM §2.2, E (N prompts condition the generator); what is left out is this project's.
    """
    wanted = generator.identity.encoder_sha256 if isinstance(generator, TrainedGenerator) else ""
    if wanted and encoder.sha256 != wanted:
        raise InputError(f"the prompts' encoder is {encoder.sha256[:12]}, the generator reads {wanted[:12]}")
    texts = list(prompts)
    report = usable_prompts(texts, encoder.tokens(texts), generator.prompts)
    states, mask = encoder.condition([texts[i] for i in report.kept])
    return Conditioning(generator, states, mask, report.kept, report.caveats)
