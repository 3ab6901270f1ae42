"""LORA, the family that mixes two halves of an adapter. Source: CAO-LLM §2.4, G.2, G.6; the bounds are ours."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from cao.strategies.base import Standing, Strategy, several

LAMBDAS = (0.25, 0.5, 0.75, 1.0)


class LoraMix(Strategy):
    """Two-subspace mixing of the current adapter: 0 is plain LoRA, 1 the full butterfly."""

    kernel: ClassVar = "tools.apply_strategy.lora_mix:apply"
    about: ClassVar = (
        "mixes the two halves of the adapter that was generated for the task: 0 keeps them apart, 1 mixes them fully. "
        "It helps where that adapter is too weak or too strong."
    )
    usual: ClassVar = {"lambda": "0.2 to 0.8"}
    papers_tasks: ClassVar = ("boolq", "gsm8k", "math")

    family: Literal["LORA"]
    lambda_: Annotated[float, Field(ge=0.0, le=1.0, alias="lambda")]

    @classmethod
    def papers_numbers(cls) -> Self:
        """Return the family's number in the paper."""
        return cls(family="LORA", **{"lambda": 0.5})

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return four degrees of mixing."""
        return tuple(cls(family="LORA", **{"lambda": value}) for value in LAMBDAS)

    @classmethod
    def obstacle(cls, standing: Standing) -> str | None:
        """Return that there is no adapter, or none with two equal halves."""
        if many := several(standing):
            return many
        if standing.adapter is None:
            return f"there is no adapter to mix: none was generated for {standing.model}"
        if standing.adapter.rank % 2:
            return f"the adapter has the odd rank {standing.adapter.rank}: mixing needs two equal halves"
        return None
