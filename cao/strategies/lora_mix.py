"""LORA, the family that mixes two halves of an adapter, or scales it.

Source: CAO-LLM §2.4, G.2, G.6; the bounds and the reading ``strength`` are this project's.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from cao.strategies.base import Standing, Strategy, several

LAMBDAS, STRENGTHS = (0.5, 1.0), (0.25, 0.5, 0.75, 1.25)


class LoraMix(Strategy):
    """Two-subspace mixing of the current adapter, or its strength.

    With reading ``butterfly``, 0 is plain LoRA and 1 the full butterfly. With ``strength``, the adapter's change of the
    weights is multiplied by lambda: 0 is the model without it, 1 leaves it as it is, above 1 strengthens it.
    """

    kernel: ClassVar = "tools.apply_strategy.lora_mix:apply"
    about: ClassVar = (
        "changes the adapter that the model carries, in one of two readings. strength multiplies the adapter's effect "
        "by lambda: below 1 weakens it, 0 removes it, above 1 strengthens it. butterfly mixes the two halves of the "
        "adapter: 0 keeps them apart, 1, the most, mixes them fully. The mixed part was never trained, so it is close "
        "to a random change."
    )
    usual: ClassVar = {"lambda": "0.2 to 0.8", "reading": "strength or butterfly"}
    papers_tasks: ClassVar = ("boolq", "gsm8k", "math")

    family: Literal["LORA"]
    lambda_: Annotated[float, Field(ge=0.0, le=1.5, alias="lambda")]
    reading: Literal["butterfly", "strength"] = "butterfly"

    @model_validator(mode="after")
    def _in_the_readings_bounds(self) -> Self:
        if self.reading == "butterfly" and self.lambda_ > 1:
            raise PydanticCustomError("bound", "lambda is at most 1 with reading butterfly")
        return self

    @classmethod
    def papers_numbers(cls) -> Self:
        """Return the family's number in the paper."""
        return cls.model_validate({"family": "LORA", "lambda": 0.5})

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return four strengths, and two degrees of mixing."""
        points = (*(("strength", value) for value in STRENGTHS), *(("butterfly", value) for value in LAMBDAS))
        return tuple(
            cls.model_validate({"family": "LORA", "lambda": value, "reading": reading}) for reading, value in points
        )

    @classmethod
    def obstacle(cls, standing: Standing) -> str | None:
        """Return that there is no adapter, or several."""
        if standing.adapter is None:
            return several(standing) or f"there is no adapter to mix: the current model is {standing.model} without one"
        soft = standing.adapter.virtual_tokens > 0
        return "the current adapter is a soft prompt, which has no matrices to mix or scale" if soft else None

    def refusal(self, standing: Standing) -> str | None:
        """Return that there is no adapter, or none with two equal halves to mix."""
        if self.reading == "butterfly" and standing.adapter and standing.adapter.rank % 2:
            return f"the adapter has the odd rank {standing.adapter.rank}: mixing needs two equal halves"
        return super().refusal(standing)
