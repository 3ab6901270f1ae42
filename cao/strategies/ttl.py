"""TTL, the family that trains on the unlabelled prompts. Source: CAO-LLM §2.4, G.1, G.6; the bounds are ours."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, ClassVar, Literal, LiteralString, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from cao.strategies.base import Pace, Peft, Price, Standing, Strategy, several
from cao.types import MOST_VIRTUAL_TOKENS, Record

Subset = Literal["all", "layers", "modules"]
VirtualTokens = Annotated[int, Field(ge=1, le=MOST_VIRTUAL_TOKENS)]
Share = Annotated[float, Field(ge=0.02, le=1.0)]
NO_SUBSET: LiteralString = "subset chooses among LoRA's parameters, and peft=prompt trains none of them: leave one out"
RATES = (1e-4, 3e-4)
TRAINING_OVER_READING = 3.0
"""A step of training reads forwards and backwards."""
PROMPT_RATE = 300.0
"""Times the learning rate, for virtual tokens: Lester et al. 2021 train them at 0.3 where all weights take 0.001."""


IDLE: dict[str, tuple[str, tuple[str, ...], TypeAdapter[float] | TypeAdapter[int]]] = {
    "share": ("subset", ("all",), TypeAdapter(Share)),
    "virtual_tokens": ("peft", ("lora", "dora"), TypeAdapter(VirtualTokens)),
}
"""Key → the key that it depends on, that one's values (its default first) beside which it is idle, its own bounds."""


def without_idle(values: Mapping[str, object]) -> dict[str, object]:
    """Return a TTL's keys without those that have no effect beside the others; one out of its bounds stays.

    Args:
        values: key to value, not yet checked.
    """
    kept = dict(values)
    for key, (on, idle, bounds) in IDLE.items():
        if key in values and values.get(on, idle[0]) in idle:
            with suppress(ValidationError):
                bounds.validate_python(values[key], strict=True)
                del kept[key]
    return kept


class TTL(Strategy):
    """Test-time learning: LoRA steps on the input's own cross-entropy, weighted by perplexity."""

    kernel: ClassVar = "tools.apply_strategy.ttl:apply"
    about: ClassVar = (
        "trains a few weights on questions without their answers: on other questions of the task (support), or on the "
        "very questions about to be answered (test). Only questions of high perplexity are trained on."
    )
    usual: ClassVar = {
        "ttl_steps": "10 to 50",
        "learning_rate": "0.00001 to 0.001",
        "batch_size": "2 to 8",
        "shuffle_data": "true or false",
        "inputs": "support or test",
    }
    effort: ClassVar = 3
    other_names: ClassVar = ("TTT",)
    papers_tasks: ClassVar = ("arc_easy", "jama", "piqa")
    unoffered: ClassVar = ("subset", "share", "peft", "virtual_tokens")

    family: Literal["TTL"]
    ttl_steps: Annotated[int, Field(ge=1, le=100)]
    learning_rate: Annotated[float, Field(ge=1e-7, le=1e-2)]
    batch_size: Annotated[int, Field(ge=1, le=16)]
    shuffle_data: bool
    inputs: Literal["support", "test"] = "support"
    subset: Subset = "all"
    share: Share = 0.25
    peft: Peft = "lora"
    virtual_tokens: VirtualTokens = 8

    @model_validator(mode="before")
    @classmethod
    def _one_way_to_say_what_is_idle(cls, values: object) -> object:
        """A key without effect counts as not given: equal trainings have equal texts."""
        return without_idle(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.peft == "prompt" and self.subset != "all":
            raise PydanticCustomError("subset", NO_SUBSET)
        return self

    @classmethod
    def papers_numbers(cls) -> Self:
        """Return the family's numbers in the paper."""
        return cls(family="TTL", ttl_steps=25, learning_rate=1e-5, batch_size=4, shuffle_data=True)

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return the paper's numbers and two larger rates, on the support prompts and on the questions themselves."""
        first = cls.papers_numbers()
        points = (first, *(first.model_copy(update={"learning_rate": rate}) for rate in RATES))
        return (*points, *(point.model_copy(update={"inputs": "test"}) for point in points))

    @classmethod
    def obstacle(cls, standing: Standing) -> str | None:
        """Return that several adapters answer together, or that the run's kind of TTL cannot go on from the current."""
        return several(standing) or _other_kind(standing.peft, standing)

    def refusal(self, standing: Standing) -> str | None:
        """Return that several adapters answer together, or that what it trains cannot go on from the current one."""
        return several(standing) or _other_kind(self.peft, standing)

    def price(self, pace: Pace) -> Price:
        """Return the price of the training, of both where each part has its own, and of reading virtual tokens."""
        more = self.virtual_tokens if self.peft == "prompt" else 0
        each = pace.tokens * (pace.read + pace.scored) + more * pace.read
        steps = TRAINING_OVER_READING * (self.ttl_steps + (self.subset != "all")) * self.batch_size
        times = 1.0 + more / max(1.0, pace.tokens)
        if self.transductive:
            return Price(seconds=(steps + pace.reward) * each, times=times, again=(steps + pace.test) * each)
        return Price(seconds=(steps + pace.prompts) * each, times=times)

    @property
    def rate(self) -> float:
        """The optimiser's rate: the learning rate, and more for virtual tokens."""
        return self.learning_rate * (PROMPT_RATE if self.peft == "prompt" else 1.0)

    @property
    def transductive(self) -> bool:
        """Whether it trains on the unlabelled questions about to be answered, as the paper's Algorithm 2 does."""
        return self.inputs == "test"

    @property
    def trained_on(self) -> int:
        """Prompts that it trains on when it is applied, steps times batch size."""
        return self.ttl_steps * self.batch_size


class TTLSettings(Record):
    """What a run adds to every TTL strategy that does not say it; no policy reads of it.

    Attributes:
        subset: which LoRA parameters are trained: all, or those of the most salient layers or modules.
        share: of the layers or modules, where some are trained.
        peft: what is trained: LoRA; DoRA, which has a magnitude for each output besides; or the embeddings of virtual
            tokens before every prompt, and no LoRA (prompt tuning).
        virtual_tokens: how many of these a fresh soft prompt has.
    """

    subset: Subset = "all"
    share: Share = 0.25
    peft: Peft = "lora"
    virtual_tokens: VirtualTokens = 8

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.peft == "prompt" and self.subset != "all":
            raise ValueError(NO_SUBSET)
        return self

    def added(self, strategy: Strategy) -> Strategy:
        """Return the strategy with these settings, where it is a TTL that states none of them."""
        if not isinstance(strategy, TTL) or any(key in strategy.model_fields_set for key in TTL.unoffered):
            return strategy
        return strategy.model_copy(update=without_idle(self.model_dump()))


def _other_kind(peft: Peft, standing: Standing) -> str | None:
    """Return that the current adapter is of the other kind than what is trained, where there is one."""
    current = standing.adapter
    if current is None or (peft == "prompt") == bool(current.virtual_tokens):
        return None
    if peft == "prompt":
        return "the current model carries LoRA, beside which PEFT puts no soft prompt; peft=prompt needs the base model"
    return f"the current model carries a soft prompt, beside which PEFT puts no LoRA; peft={peft} needs another start"
