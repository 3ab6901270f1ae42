"""What a run measures, as its record and its state hold it: the reward part, the test part, and what they took."""

from typing import Literal

from pydantic import Field
from typing_extensions import TypedDict  # typing's own has no JSON schema before Python 3.12

from cao.types import AnswerRule, Comparison, Record, Reward

GeneratedName = Literal["generated", "aligned"]
StartName = Literal["base", "generated", "aligned"]
"""What the loop may start from; ``base`` is the deployed model."""

GENERATED: tuple[GeneratedName, ...] = ("generated", "aligned")
"""The adapters that may take the deployed model's place, in the order in which they come about."""


class RuleRewards(Record):
    """What each model scores on the reward part under one answer rule, None where it was not measured to the end.

    ``reason`` says which models could not be measured under it, and why; empty where none failed.
    """

    rule: AnswerRule
    base: Reward | None
    generated: Reward | None = None
    aligned: Reward | None = None
    reason: str = ""


class Rewards(Record):
    """The reward part: the deployed model, the adapters made for it, what the loop started from, what it reached.

    ``baseline`` is the deployed model under its own best answer rule, as is each adapter; ``rules`` has all of them.
    ``answer_rules`` names the rules that the baseline and the best model answer by.

    ``comparisons`` sets the generated and the aligned adapter against the deployed model; where one was dropped, it and
    the reward speak of the first ``dropped_after`` questions.
    """

    baseline: Reward | None = None
    generated: Reward | None = None
    aligned: Reward | None = None
    start: StartName = "base"
    best: Reward | None = None
    comparisons: dict[str, Comparison | None] = Field(default_factory=dict)
    dropped_after: dict[str, int | None] = Field(default_factory=dict)
    rules: tuple[RuleRewards, ...] = ()
    answer_rules: dict[Literal["baseline", "best"], AnswerRule] = Field(default_factory=dict)

    def starts(self) -> dict[StartName, Reward]:
        """Return what the loop could start from and was measured: the deployed model first."""
        named: dict[StartName, Reward | None] = {
            "base": self.baseline,
            "generated": self.generated,
            "aligned": self.aligned,
        }
        return {name: reward for name, reward in named.items() if reward is not None}

    def started(self) -> Reward | None:
        """Return the reward of what the loop started from."""
        return self.starts().get(self.start)


class PartScore(Record):
    """One model on the test part; see ``cao.types.Reward``."""

    accuracy: float
    ci95: tuple[float, float]
    n: int
    margin: float
    loss: float
    gold_nll_per_char: float
    raw_loss: float | None = None
    chance: float = 0.0
    uniform_loss: float = 0.0
    at_chance: bool = False


RULE_STEP = "answer rule"
"""The step from the default answer rule to the deployed model's own best one."""


class TestStep(Record):
    """One step from the deployed model to what was adopted, on the test part: what made it, and what it changed.

    Attributes:
        what: made the step: ``answer rule``, ``generated adapter``, ``aligned adapter`` or a strategy.
        accuracy: behind the step, in [0, 1].
        loss: behind the step, in nats.
        accuracy_change: over the step before it.
        loss_change: mean paired difference, negative is better.
        loss_p_value: one-sided, H1: the loss is lower behind the step.
        p_value: McNemar's, exact, two-sided.
    """

    what: str
    accuracy: float
    loss: float
    accuracy_change: float
    loss_change: float
    loss_p_value: float
    p_value: float


class TestPart(Record):
    """What the test part said, once, at the end; ``chance`` is the accuracy of drawing lots among the choices.

    ``default`` is the deployed model under the default answer rule, ``baseline`` under its own best one; ``steps`` lead
    from ``default`` to ``adapted``.
    """

    __test__ = False  # pytest takes the name for a test class

    default: PartScore | None = None
    baseline: PartScore
    adapted: PartScore
    steps: tuple[TestStep, ...] = ()
    chance: float | None = None
    p_value: float
    loss_change: float
    loss_p_value: float


class Unjudged(Record):
    """What a run without labels made: nothing says whether it is better than the deployed model.

    Attributes:
        answer_rule: that takes the batch's prior off, None where there is none: ``reason`` says why.
        prior: choice → the log of its mean probability over the prompts, nats, by the deployed model.
        changed: prompts whose answer the rule changes.
        prompts: how many were asked.
        reason: why there is no such rule, empty where there is one.
    """

    answer_rule: AnswerRule | None = None
    prior: dict[str, float] = Field(default_factory=dict)
    changed: int = 0
    prompts: int = 0
    reason: str = ""


class Counts(Record):
    """Reward questions: what measuring everything in full would ask, what models answered, what was saved and how.

    ``member_answers`` counts the answers of single adapters, m for a question that m answer together.
    """

    asked: int
    answered: int
    saved: int
    dropped_early: int = 0
    reused: int = 0
    checked: int = 0
    agreed: int = 0
    member_answers: int = 0
    member_answers_saved: int = 0


class Detectable(Record):
    """The smallest changes that the reward part could have seen: log-loss in nats, accuracy in [0, 1].

    ``loss`` is None where it can tell nothing: answers are written, or no question's log-loss differed, as behind
    answers that are all uniform.
    """

    loss: float | None
    accuracy: float


class Evaluations(TypedDict):
    """Reward questions, counted.

    Attributes:
        asked: what full evaluation of every candidate would ask, without a memory.
        dropped_early: candidates that were dropped before the last question.
        measured: key of a measurement → questions that a model answered for it.
        reused: of these, answered from kept hidden states, or by an adapter whose answer was kept with another
            measurement; one counts once for each of several adapters.
        checked: dropped candidates that were measured to the end all the same.
        agreed: of these, not accepted by the full evaluation either.
        member_asked: like ``asked``, an adapter's answer each: m for a question that m adapters answer together.
        member_measured: key of an adapter's own measurement → questions that it answered.
    """

    asked: int
    dropped_early: int
    measured: dict[str, int]
    reused: int
    checked: int
    agreed: int
    member_asked: int
    member_measured: dict[str, int]
