"""Calibrate, the family that chooses how likelihoods become an answer; it trains nothing and needs no label.

Ours: the paper's list of families is open. Sources: Holtzman et al., Surface Form Competition, 2021 (PMI_DC); Zhao et
al., Calibrate Before Use, 2021; Zhou et al., Batch Calibration, 2023; the strengths and lengths between are ours.
"""

import math
from itertools import product
from typing import Annotated, ClassVar, Literal, Self, cast, get_args

from pydantic import Field, model_validator

from cao.strategies.base import Pace, Price, Standing, Strategy
from cao.types import AnswerRule, LengthUnit, PriorKind

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
LENGTHS: tuple[LengthUnit, ...] = ("none", "token", "char")


PRIOR_TIMES = 0.84
"""Of a question's time: what it takes at most to read its choices without it."""

NEEDS = {
    "choice": "choices that are scored themselves, and here what follows them is",
    "batch": "prompts with choices that are the same words in every question",
}
"""Prior → what it needs of a task."""


class Calibrate(Strategy):
    """Another rule of answering: the choices' priors taken off, and another normalisation by length."""

    kernel: ClassVar = "tools.apply_strategy.calibrate:apply"
    about: ClassVar = (
        "changes how the likelihoods of the choices become an answer, and no weights. A prior takes off how likely a "
        "choice is without the question, or how often the model prefers it over a batch of questions; batch needs "
        "choices that are the same words in every question. A score may be divided by the choice's length."
    )
    usual: ClassVar = {
        "prior": "none, choice or batch",
        "strength": "0.25 to 1",
        "length": "none, token or char",
    }
    idempotent: ClassVar = True

    family: Literal["Calibrate"]
    prior: PriorKind
    strength: Annotated[float, Field(ge=0.0, le=1.0)]
    length: LengthUnit

    @model_validator(mode="before")
    @classmethod
    def _one_way_to_say_nothing(cls, values: object) -> object:
        """Without a prior there is no strength, and the other way round: equal rules have equal texts."""
        if isinstance(values, dict):
            strength, prior = values.get("strength"), values.get("prior")
            number = cast(float, strength) if type(strength) in (int, float) else math.nan  # true is an int to Python
            if (prior == "none" and 0 <= number <= 1) or (prior in ("choice", "batch") and number == 0):
                return {**values, "prior": "none", "strength": 0.0}
        return values

    @property
    def rule(self) -> AnswerRule:
        """The rule that it states."""
        return AnswerRule(prior=self.prior, strength=self.strength, length=self.length)

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return every length without a prior, and with either prior at four strengths."""
        priors: tuple[PriorKind, ...] = ("choice", "batch")
        plain = (cls(family="Calibrate", prior="none", strength=0.0, length=length) for length in LENGTHS)
        taken_off = (
            cls(family="Calibrate", prior=prior, strength=strength, length=length)
            for prior, strength, length in product(priors, STRENGTHS, LENGTHS)
        )
        return (*plain, *taken_off)

    @classmethod
    def obstacle(cls, standing: Standing) -> str | None:
        """Return that there are no choices to rank."""
        return None if standing.ranks else "answers are written here: there are no choices whose likelihoods compare"

    @classmethod
    def withheld(cls, standing: Standing) -> dict[str, tuple[str, ...]]:
        """Return the priors that there are none of in this task."""
        lacking = tuple(kind for kind in get_args(PriorKind) if kind not in standing.priors)
        return {"prior": lacking} if lacking else {}

    def price(self, pace: Pace) -> Price:
        """Return the price of answering: behind ``choice`` the choices are read once more, without their question."""
        return Price(times=1.0 + PRIOR_TIMES * (self.prior == "choice"))

    def refusal(self, standing: Standing) -> str | None:
        """Return that the rule is in use, or what its prior needs and the task has not."""
        if standing.current.answer_rule == self.rule:
            return "this rule is in use already"
        if obstacle := super().refusal(standing):
            return obstacle
        return None if self.prior in standing.priors else f"the prior {self.prior} needs {NEEDS[self.prior]}"
