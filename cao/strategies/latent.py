"""Latent, the family of one vector a question (SLOT). Source: CAO-LLM §2.4, G.5, G.6; the bounds are ours."""

from itertools import product
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from cao.strategies.base import Pace, Price, Standing, Strategy

SLOT_STEPS, SLOT_RATES = (5,), (0.003, 0.01, 0.03, 0.1)


class Latent(Strategy):
    """SLOT: one vector per sample, added to the last hidden states and fitted to the prompt itself."""

    kernel: ClassVar = "tools.apply_strategy.latent:apply"
    about: ClassVar = "fits one vector to each question before it is answered."
    usual: ClassVar = {"slot_steps": "3 to 10", "slot_lr": "0.005 to 0.05"}
    effort: ClassVar = 1
    idempotent: ClassVar = True
    papers_tasks: ClassVar = ("arc_challenge", "social_iqa")

    family: Literal["Latent"]
    slot_steps: Annotated[int, Field(ge=1, le=20)]
    slot_lr: Annotated[float, Field(ge=1e-5, le=1.0)]

    @classmethod
    def papers_numbers(cls) -> Self:
        """Return the family's numbers in the paper."""
        return cls(family="Latent", slot_steps=5, slot_lr=0.1)

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return the paper's steps at rates up to the paper's."""
        return tuple(
            cls(family="Latent", slot_steps=steps, slot_lr=rate) for steps, rate in product(SLOT_STEPS, SLOT_RATES)
        )

    def refusal(self, standing: Standing) -> str | None:
        """Return that these steps at this rate are in use."""
        current = standing.current.latent
        if current is not None and (current.slot_steps, current.slot_lr) == (self.slot_steps, self.slot_lr):
            return "these steps at this rate are in use already"
        return super().refusal(standing)

    def price(self, pace: Pace) -> Price:
        """Return the price of answering, which has steps of its own on each prompt."""
        return Price(times=1.0 + (1 + self.slot_steps / 10) * pace.tokens * pace.scored / max(pace.each, 1e-9))
