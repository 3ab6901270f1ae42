"""What a strategy family says of itself: its settings and bounds, and everything that others ask about it.

A family is one subclass of ``Strategy`` in a file of its own, and one line in ``cao.strategies.FAMILIES``. Policies
read it and tools apply it, so it lies below both; it imports no torch, and names its kernel instead of importing it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Self, TypedDict, cast

from pydantic import BaseModel, ConfigDict

from cao.types import AdaptedModel, AdapterRef, PriorKind, StrategyFields

Peft = Literal["lora", "dora", "prompt"]
"""What is trained where a strategy trains: LoRA, DoRA, or a soft prompt."""

Withheld = Mapping[str, tuple[str, ...]]
"""Key → the values of it that cannot act now."""


@dataclass(frozen=True)
class Pace:
    """What the price of a strategy depends on.

    Attributes:
        prompts: support prompts.
        tokens: mean tokens of one.
        read: seconds a token that is read.
        scored: seconds a position at which the vocabulary is needed.
        each: seconds in which the deployed model answers one question.
        reward: reward questions.
        test: test questions.
        pool: adapters at hand besides the current one.
    """

    prompts: int
    tokens: float
    read: float
    scored: float
    each: float
    reward: int = 0
    test: int = 0
    pool: int = 0


class Price(NamedTuple):
    """What a strategy costs.

    Attributes:
        seconds: of applying it.
        times: how many times as long as the deployed model the adapted one takes for a question.
        again: seconds of applying it once more for the test questions, 0 where what was made serves them too.
    """

    seconds: float = 0.0
    times: float = 1.0
    again: float = 0.0


class SettingRule(TypedDict, total=False):
    """What a strategy's JSON schema says of one setting; numbers have both bounds."""

    title: str
    type: str
    enum: list[str]
    const: str
    default: str
    minimum: int | float
    maximum: int | float
    multipleOf: int | float


class FamilySchema(TypedDict, total=False):
    """A family's JSON schema, as servers and grammars read it."""

    title: str
    description: str
    type: str
    properties: dict[str, SettingRule]
    required: list[str]
    additionalProperties: bool


@dataclass(frozen=True)
class Standing:
    """What a strategy would act on.

    Attributes:
        current: the model to beat, which a strategy builds on.
        model: the base model's name.
        generator: whether a trained generator exists for it.
        ranks: whether questions have choices that are ranked by their likelihood.
        priors: that an answer rule can take off; batch where the choices are the same words in every question, choice
            where they are what is scored.
        pool: hashes of the adapters at hand besides the current one.
        peft: what a TTL trains that does not say.
        changed: whether accepted strategies made the current adapters.
    """

    current: AdaptedModel
    model: str
    generator: bool
    ranks: bool = True
    priors: tuple[PriorKind, ...] = ("none", "choice")
    pool: tuple[str, ...] = ()
    peft: Peft = "lora"
    changed: bool = False

    @property
    def adapter(self) -> AdapterRef | None:
        """The current adapter, None for the plain base model and where several answer together."""
        return self.current.members[0] if len(self.current.members) == 1 else None


class Strategy(BaseModel):
    """One choice of a policy: a family with its settings, every number bounded on both ends.

    A subclass has a docstring, which servers read as the schema's description, and fields in the order that a policy
    writes them, ``family`` first; a key that may be left out has a default and comes last. Only ``kernel``, ``about``,
    ``usual`` and ``grid`` must be given besides.

    Attributes:
        kernel: ``module:function`` that applies the family; see ``tools.apply_strategy``.
        about: what the family does, for the policy's prompt; goes on from the family's name. It says where the family
            helps only where that was measured.
        usual: field → its usual values, which are narrower than the bounds, for the policy's prompt.
        effort: the grid begins with the families of the least effort.
        from_states: whether it makes adapters from the encoder's token states; it is then given the bare prompts.
        other_names: of the family in a policy's text.
        papers_tasks: the tasks that the paper found the family best for.
        unoffered: keys that no policy is offered: neither its prompt nor its grammar has them, a text may.
        idempotent: whether applying a strategy again on top of itself changes nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    kernel: ClassVar[str]
    about: ClassVar[str]
    usual: ClassVar[dict[str, str]]
    effort: ClassVar[int] = 0
    from_states: ClassVar[bool] = False
    other_names: ClassVar[tuple[str, ...]] = ()
    papers_tasks: ClassVar[tuple[str, ...]] = ()
    unoffered: ClassVar[tuple[str, ...]] = ()
    idempotent: ClassVar[bool] = False

    family: str

    def canonical(self) -> StrategyFields:
        """Return the JSON object of this strategy, keys as in the paper.

        A key at its default is left out, so that a text from before the key was known is its own canonical form.
        """
        fields: StrategyFields = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return fields

    @classmethod
    def schema_of(cls, withheld: Withheld | None = None) -> FamilySchema:
        """Return the JSON schema of this family as policies are offered it, keys as in the paper.

        Args:
            withheld: values that are not offered.
        """
        schema = cast(FamilySchema, cls.model_json_schema(by_alias=True))
        for key in cls.unoffered:
            del schema["properties"][key]
        for key, values in (withheld or {}).items():
            rule = schema["properties"][key]
            rule["enum"] = [value for value in rule["enum"] if value not in values]
        return schema

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return the points that an exhaustive search tries, the paper's numbers among them."""
        raise NotImplementedError(cls.__name__)

    @classmethod
    def papers_numbers(cls) -> Self | None:
        """Return the family's numbers in the paper, None where it has none."""
        return None

    @classmethod
    def obstacle(cls, standing: Standing) -> str | None:
        """Return why the family cannot act now, in one sentence, or None where it can."""
        return None

    @classmethod
    def withheld(cls, standing: Standing) -> dict[str, tuple[str, ...]]:
        """Return key → the values of it that cannot act now, none of them a default; no policy is offered one."""
        return {}

    def refusal(self, standing: Standing) -> str | None:
        """Return why this strategy cannot act now, in one sentence, or None where it can."""
        return type(self).obstacle(standing)

    def price(self, pace: Pace) -> Price:
        """Return what applying this strategy and answering with it costs."""
        return Price()

    @property
    def transductive(self) -> bool:
        """Whether it acts on the unlabelled questions about to be answered, so that each part has its own model."""
        return False

    @property
    def trained_on(self) -> int:
        """Prompts that it trains on when it is applied, steps times batch size; 0 for a family that does not train."""
        return 0


def several(standing: Standing) -> str | None:
    """Return that a family which changes one adapter has none to change, where several answer together."""
    many = len(standing.current.members)
    return f"{many} adapters answer together, and it changes one" if many > 1 else None
