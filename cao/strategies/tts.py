"""TTS, the family of several adapters that answer together: one a batch of prompts, or those at hand.

Source: CAO-LLM §2.4, G.3, G.6; the bounds and the pool are this project's.
"""

from itertools import product
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from cao.strategies.base import Pace, Price, Standing, Strategy

Method = Literal["avg_sim_score", "avg_prompt_embed", "max_confidence", "majority_vote", "sum_logprobs"]
ROUTING: tuple[Method, ...] = ("avg_sim_score", "avg_prompt_embed")
"""Methods that send a question to one adapter."""
COMBINING: tuple[Method, ...] = ("max_confidence", "majority_vote", "sum_logprobs")
"""Methods that combine all adapters' answers."""
Members = Literal["batches", "pool", "both"]
BATCHES, MOST_BATCHES = (4,), 32
POOLED: tuple[Method, ...] = ("sum_logprobs", "max_confidence")
"""Methods that the grid tries over the pool."""
GENERATING_SECONDS = 0.3
"""Of one adapter."""
ROUTED_TIMES = 1.2
"""How many times as long a question takes where it is encoded first and then answered by one adapter."""


class TTS(Strategy):
    """Test-time scaling: route each question to an adapter, or combine the answers of several.

    The members are adapters made from prompt batches, the pool (the base model without an adapter, the current adapter,
    the centre of what the generator makes, and the user's own adapters), or both. Over the pool alone no batch is made:
    num_prompt_batches is 1 then, whatever was given.
    """

    kernel: ClassVar = "tools.apply_strategy.tts:apply"
    about: ClassVar = (
        "lets several adapters answer together. They are made from batches of questions (batches), or are the model "
        "without an adapter and the adapters at hand (pool), or all of these (both). pool and both combine answers by "
        "max_confidence, majority_vote or sum_logprobs; pool reads no num_prompt_batches."
    )
    usual: ClassVar = {"num_prompt_batches": "4 to 20", "method": "one of the five", "members": "batches, pool or both"}
    effort: ClassVar = 2
    from_states: ClassVar = True
    papers_tasks: ClassVar = ("hellaswag", "divlogiceval", "codemmlu")

    family: Literal["TTS"]
    num_prompt_batches: Annotated[int, Field(ge=1, le=MOST_BATCHES)]
    method: Method
    members: Members = "batches"

    @model_validator(mode="before")
    @classmethod
    def _one_way_to_say_pool(cls, values: object) -> object:
        """The pool reads no number of batches: equal strategies have equal texts."""
        if isinstance(values, dict) and values.get("members") == "pool":
            given = values.get("num_prompt_batches")
            if type(given) is int and 1 <= given <= MOST_BATCHES:
                return {**values, "num_prompt_batches": 1}
        return values

    @model_validator(mode="after")
    def _the_pool_has_no_batches_to_route_by(self) -> Self:
        if self.members != "batches" and self.method in ROUTING:
            raise PydanticCustomError("bound", f"members={self.members} goes with {', '.join(COMBINING)}")
        return self

    @classmethod
    def papers_numbers(cls) -> Self:
        """Return the family's numbers in the paper."""
        return cls(family="TTS", num_prompt_batches=20, method="max_confidence")

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return every method over fewer batches, the paper's numbers, and two methods over the pool."""
        methods = (*ROUTING, *COMBINING)
        small = (cls(family="TTS", num_prompt_batches=m, method=method) for m, method in product(BATCHES, methods))
        pool = (cls(family="TTS", num_prompt_batches=1, method=method, members="pool") for method in POOLED)
        both = (
            cls(family="TTS", num_prompt_batches=m, method=method, members="both")
            for m, method in product(BATCHES, POOLED)
        )
        return (*small, cls.papers_numbers(), *pool, *both)

    @classmethod
    def obstacle(cls, standing: Standing) -> str | None:
        """Return that several answer together already, or that nothing can: no generator, and no adapter at hand."""
        if len(standing.current.members) > 1:
            return f"{len(standing.current.members)} adapters answer together already"
        if standing.generator or pool_size(standing) > 1:
            return None
        return f"there is nothing to route over: no generator exists for {standing.model}"

    @classmethod
    def withheld(cls, standing: Standing) -> dict[str, tuple[str, ...]]:
        """Return the pool, where it holds nothing besides the base model."""
        return {} if pool_size(standing) > 1 else {"members": ("pool",)}

    def refusal(self, standing: Standing) -> str | None:
        """Return what its members need or undo."""
        if reason := super().refusal(standing):
            return reason
        if self.members == "batches" and standing.changed:
            return "its adapters would take the place of the accepted one; members=both or pool have that among them"
        if self.members == "pool":
            return None if pool_size(standing) > 1 else "the pool holds nothing besides the base model"
        if standing.generator:
            return None
        return f"no generator exists for {standing.model}, which prompt batches need; members=pool needs none"

    def price(self, pace: Pace) -> Price:
        """Return the price of generating the adapters, and of answering with one or with all of them."""
        batches = 0 if self.members == "pool" else self.num_prompt_batches
        pooled = 0 if self.members == "batches" else 2 + pace.pool
        times = ROUTED_TIMES if self.method in ROUTING else float(batches + pooled)
        return Price(GENERATING_SECONDS * batches, times)


def pool_size(standing: Standing) -> int:
    """Return the members of the pool: the base model, the current adapter and what is at hand, repeats once."""
    return len({None, standing.adapter and standing.adapter.sha256, *standing.pool})
