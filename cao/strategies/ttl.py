"""TTL, the family that trains on the unlabelled prompts. Source: CAO-LLM §2.4, G.1, G.6; the bounds are ours."""

from itertools import product
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from cao.strategies.base import Pace, Price, Standing, Strategy, several

STEPS, RATES = (10, 25), (1e-4, 3e-4)
TRAINING_OVER_READING = 3.0
"""A step of training reads forwards and backwards."""


class TTL(Strategy):
    """Test-time learning: LoRA steps on the input's own cross-entropy, weighted by perplexity."""

    kernel: ClassVar = "tools.apply_strategy.ttl:apply"
    about: ClassVar = (
        "trains a few weights on the task's own questions, without answers. It helps where the wording or the subject "
        "is unfamiliar. A large learning rate makes the model forget."
    )
    usual: ClassVar = {
        "ttl_steps": "10 to 50",
        "learning_rate": "0.00001 to 0.001",
        "batch_size": "2 to 8",
        "shuffle_data": "true or false",
    }
    effort: ClassVar = 3
    other_names: ClassVar = ("TTT",)
    papers_tasks: ClassVar = ("arc_easy", "jama", "piqa")

    family: Literal["TTL"]
    ttl_steps: Annotated[int, Field(ge=1, le=100)]
    learning_rate: Annotated[float, Field(ge=1e-7, le=1e-2)]
    batch_size: Annotated[int, Field(ge=1, le=16)]
    shuffle_data: bool

    @classmethod
    def papers_numbers(cls) -> Self:
        """Return the family's numbers in the paper."""
        return cls(family="TTL", ttl_steps=25, learning_rate=1e-5, batch_size=4, shuffle_data=True)

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return the paper's numbers, and rates that are larger."""
        return (
            cls.papers_numbers(),
            *(
                cls(family="TTL", ttl_steps=steps, learning_rate=rate, batch_size=4, shuffle_data=True)
                for rate, steps in product(RATES, STEPS)
            ),
        )

    @classmethod
    def obstacle(cls, standing: Standing) -> str | None:
        """Return that several adapters answer together."""
        return several(standing)

    def price(self, pace: Pace) -> Price:
        """Return the price of the training; answering costs what it did."""
        passes = TRAINING_OVER_READING * self.ttl_steps * self.batch_size + pace.prompts
        return Price(seconds=passes * pace.tokens * (pace.read + pace.scored))

    @property
    def trained_on(self) -> int:
        """Prompts that it trains on, steps times batch size."""
        return self.ttl_steps * self.batch_size
