"""TTS, the family of several adapters, one a batch of prompts. Source: CAO-LLM §2.4, G.3, G.6; the bounds are ours."""

from itertools import product
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from cao.strategies.base import Pace, Price, Standing, Strategy

Method = Literal["avg_sim_score", "avg_prompt_embed", "max_confidence", "majority_vote", "sum_logprobs"]
ROUTING: tuple[Method, ...] = ("avg_sim_score", "avg_prompt_embed")
"""Methods that send a question to one adapter."""
COMBINING: tuple[Method, ...] = ("max_confidence", "majority_vote", "sum_logprobs")
"""Methods that combine all adapters' answers."""
BATCHES = (4,)
GENERATING_SECONDS = 0.3
"""Of one adapter."""
ROUTED_TIMES = 1.2
"""How many times as long a question takes where it is encoded first and then answered by one adapter."""


class TTS(Strategy):
    """Test-time scaling over prompt batches: route each question to an adapter, or combine all answers."""

    kernel: ClassVar = "tools.apply_strategy.tts:apply"
    about: ClassVar = (
        "makes several adapters from batches of questions and lets them answer together. "
        "It helps where single answers are unsteady."
    )
    usual: ClassVar = {"num_prompt_batches": "4 to 20", "method": "one of the five"}
    effort: ClassVar = 2
    from_states: ClassVar = True
    papers_tasks: ClassVar = ("hellaswag", "divlogiceval", "codemmlu")

    family: Literal["TTS"]
    num_prompt_batches: Annotated[int, Field(ge=1, le=32)]
    method: Method

    @classmethod
    def papers_numbers(cls) -> Self:
        """Return the family's numbers in the paper."""
        return cls(family="TTS", num_prompt_batches=20, method="max_confidence")

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return every method over fewer batches, and the paper's numbers."""
        methods = (*ROUTING, *COMBINING)
        small = (cls(family="TTS", num_prompt_batches=m, method=method) for m, method in product(BATCHES, methods))
        return (*small, cls.papers_numbers())

    @classmethod
    def obstacle(cls, standing: Standing) -> str | None:
        """Return that no generator makes the adapters, or that several answer together already."""
        if len(standing.current.members) > 1:
            return f"{len(standing.current.members)} adapters answer together already"
        return (
            None if standing.generator else f"there is nothing to route over: no generator exists for {standing.model}"
        )

    def price(self, pace: Pace) -> Price:
        """Return the price of generating the adapters, and of answering with one or with all of them."""
        times = ROUTED_TIMES if self.method in ROUTING else float(self.num_prompt_batches)
        return Price(GENERATING_SECONDS * self.num_prompt_batches, times)
