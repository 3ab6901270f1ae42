"""The words every stage speaks: examples, adapters, rewards, trials.

All of them are small, frozen and JSON-able, because they travel through the graph's state; tensors lie on disk.
"""

import re
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

AnswerProtocol = Literal["likelihood", "generate"]
AnswerStyle = Literal["text", "letter"]
AcceptRule = Literal["either", "confident", "any"]
Until = Literal["first", "budget"]
"""When the loop ends: at the first accepted attempt, or when its attempts or its minutes are used up."""

ID_PATTERN = re.compile(r"^[a-z0-9][a-z0-9_-]{0,63}$")
"""What a task name or run id looks like; nothing that matches can leave its folder."""

Dtype = Literal["float32", "bfloat16"]
DtypeChoice = Literal["auto", "float32", "bfloat16"]
"""What a language model computes in; ``auto`` is the faster one on the processor at hand."""

StrategyFields = dict[str, bool | int | float | str]
"""A strategy as a JSON object: its family and its settings; ``cao.strategy`` says which are valid."""

Message = dict[str, str]
"""One message of a chat: ``role`` (system, user or assistant) and ``content``."""

Turns = tuple[tuple[str, str], ...]
"""Turns of a chat before its last question: role and text."""


class Record(BaseModel):
    """Base of the frozen value types."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Example(Record):
    """One question with its gold answer.

    Attributes:
        id: hash of the question (and its choices where a source repeats questions), stable across runs and machines.
        question: the question's text.
        choices: the candidate answers, empty where the answer is free text.
        answer: index into ``choices``, or -1 without choices.
        gold_text: the gold answer as text (free-text tasks, and the worked answer's value of GSM8K).
        context: a passage the question is about, may be empty.
        group: examples with equal group go to the same part (twins, same video).
        accepted: other texts that are as right as ``gold_text``.
        labelled: whether the right answer is known; without it ``answer`` and ``gold_text`` say nothing.
        turns: role and text of the turns before the question in a chat, which ``context`` holds as one text.
    """

    id: str
    question: str
    choices: tuple[str, ...] = ()
    answer: int = -1
    gold_text: str = ""
    context: str = ""
    group: str = ""
    accepted: tuple[str, ...] = ()
    labelled: bool = True
    turns: Turns = Field(default=(), exclude_if=lambda turns: turns == ())

    @property
    def prompt(self) -> str:
        """The natural text of the question, without any template: what a model without a chat template is asked."""
        return f"{self.context}\n{self.question}" if self.context else self.question

    @model_validator(mode="after")
    def _answer_in_range(self) -> "Example":
        if self.labelled and self.choices and not 0 <= self.answer < len(self.choices):
            raise ValueError(f"answer {self.answer} is out of range for {len(self.choices)} choices")
        if self.labelled and not self.choices and not self.gold_text:
            raise ValueError("an example needs choices or a gold text")
        return self


class Branch(Record):
    """One way to go on behind a shared prefix: ``lead`` is read, ``scored`` is judged."""

    lead: str = ""
    scored: str


class Query(Record):
    """A prompt and its candidate continuations, the unit of likelihood ranking."""

    prefix: str
    branches: tuple[Branch, ...]


WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"
"""PEFT's names of an adapter's files."""

MOST_VIRTUAL_TOKENS = 64
"""Of a soft prompt, which stands before every text."""


class AdapterRef(Record):
    """Where an adapter lies (PEFT format) and what it belongs to; never the weights themselves.

    Attributes:
        path, sha256: its folder, and its hash.
        base_sha256: the base model's.
        rank, virtual_tokens: of LoRA, and of a soft prompt; 0 for the other one.
    """

    path: str
    sha256: str
    base_sha256: str
    rank: int
    virtual_tokens: int = 0

    def moved(self, change: Callable[[str], str]) -> Self:
        """Return the reference with its path changed."""
        return self.model_copy(update={"path": change(self.path)})


class LatentSettings(Record):
    """What Latent needs at scoring time."""

    slot_steps: int
    slot_lr: float


PriorKind = Literal["none", "choice", "batch"]
LengthUnit = Literal["none", "token", "char"]


class AnswerRule(Record):
    """How the likelihoods of a question's choices become an answer; see ``tools.evaluate.answer_rule``.

    The default divides a choice's log-probability by its characters.

    Attributes:
        prior: what is known of a choice without the question: nothing, how likely its text is behind an empty question,
            or how likely it is on average over unlabelled prompts.
        strength: share of the log-prior that is taken off, in [0, 1].
        length: what the rest is divided by.
    """

    prior: PriorKind = "none"
    strength: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    length: LengthUnit = "char"


class AdaptedModel(Record):
    """The outcome of applying a strategy: what to score with. The default is the plain base model.

    Attributes:
        members: one adapter per member; None is the base model itself.
        method: how the members answer together (TTS), None for a single member.
        centroids: file with the routing centroids (safetensors), for the routing methods.
        latent: SLOT settings, or None.
        answer_rule: how each member's likelihoods become its scores.
        note: one line on what was done, for people.
    """

    members: tuple[AdapterRef | None, ...] = (None,)
    method: str | None = None
    centroids: str | None = None
    latent: LatentSettings | None = None
    answer_rule: AnswerRule = AnswerRule()
    note: str = ""

    def under(self, rule: AnswerRule) -> "AdaptedModel":
        """Return the model as it answers by a rule."""
        return self.model_copy(update={"answer_rule": rule})

    def moved(self, change: Callable[[str], str]) -> Self:
        """Return the model with every path in it changed."""
        members = tuple(member and member.moved(change) for member in self.members)
        return self.model_copy(update={"members": members, "centroids": self.centroids and change(self.centroids)})


class ChoiceLikelihood(NamedTuple):
    """What a model gives one choice: log-probability in nats, over ``tokens`` tokens and ``chars`` characters."""

    logprob: float
    tokens: int
    chars: int


class Item(Record):
    """How one question was answered.

    Attributes:
        id: the example's id.
        scores: of the choices under the model's answer rule (likelihood), or empty (generate).
        choice: index of the chosen answer, -1 where the text could not be parsed.
        gold: index of the gold answer, -1 without choices.
        correct: whether the answer is right.
        loss: choice log-loss of the scores as they are (likelihood), or gold negative log-likelihood per character
            (generate), in nats; what is compared is the loss at the model's own temperature.
        margin: gold score minus the best other score, nats per character; 0 without choices.
        gold_nll: negative log-likelihood of the gold answer, nats.
        gold_chars: characters of the gold answer as scored.
        text: the generated text, for the generate protocol.
        confidence: geometric mean of its tokens' probabilities; 0 where nothing was generated.
        choices: what was measured of each, for any answer rule; empty of several adapters' answer, and of a text.
        member: which of the model's adapters answered, where each question goes to one of several.
        guessing: accuracy of drawing lots among the choices that the prompt of a written answer shows; else 0.
    """

    id: str
    scores: tuple[float, ...] = ()
    choice: int = -1
    gold: int = -1
    correct: bool
    loss: float
    margin: float = 0.0
    gold_nll: float = 0.0
    gold_chars: int = 1
    text: str = ""
    confidence: float = 0.0
    choices: tuple[ChoiceLikelihood, ...] = ()
    member: int = 0
    guessing: float = Field(default=0.0, exclude_if=lambda lots: lots == 0)


class Reward(Record):
    """What a set of items says together.

    Attributes:
        score: accuracy in [0, 1].
        ci95: 95 % Wilson interval of the accuracy.
        margin: mean gold margin, nats per character.
        loss: mean choice log-loss at the model's own temperature (``tools.evaluate.temperature``), nats.
        gold_nll_per_char: summed gold negative log-likelihood over summed characters, nats.
        n: questions.
        raw_loss: mean choice log-loss of the scores as they are, nats; None in older files.
        chance, uniform_loss: accuracy and log-loss (nats) of guessing, 0 without choices; writing has no log-loss.
        at_chance: ``ci95`` holds ``chance`` or ``loss`` is not below ``uniform_loss``; of texts, also ``ci95`` below.
    """

    score: float
    ci95: tuple[float, float]
    margin: float
    loss: float
    gold_nll_per_char: float
    n: int
    raw_loss: float | None = None
    chance: float = 0.0
    uniform_loss: float = 0.0
    at_chance: bool = False


class Comparison(Record):
    """A candidate against the best so far on the same questions.

    Attributes:
        accuracy_change: candidate minus best.
        loss_change: mean paired difference of the loss at each side's own temperature, negative is better.
        loss_p_value: one-sided, H1: the candidate's loss is lower by more than ``price``.
        mcnemar_p_value: exact, two-sided, on the discordant pairs.
        accepted: the verdict of the acceptance rule.
        rule: which rule.
        level: one-sided level of the rules ``either`` and ``confident``.
        price: what a candidate that is costlier to serve must gain on top: nats, and as much of the accuracy.
        smallest: the smallest change of the loss that these questions can see (one-sided .1, power .8), nats.
    """

    accuracy_change: float
    loss_change: float
    loss_p_value: float
    mcnemar_p_value: float
    accepted: bool
    rule: AcceptRule
    level: float = 0.1
    price: float = 0.0
    smallest: float = 0.0

    @property
    def accuracy_p_value(self) -> float:
        """The p-value of McNemar's exact test, one-sided, H1: more accurate; 1 where it is not, which is its bound."""
        return self.mcnemar_p_value / 2 if self.accuracy_change > 0 else 1.0  # without a difference it is symmetric

    @property
    def worth(self) -> float:
        """What the change is worth: share of the questions gained plus nats of the loss lost, as ``price`` counts."""
        return self.accuracy_change - self.loss_change


class Trial(Record):
    """One attempt of the loop: a rejected proposal keeps its raw text; a dropped one says how much of it answered."""

    attempt: Annotated[int, Field(ge=1)]
    strategy: StrategyFields | None = None
    raw: str | None = None
    accepted: bool
    reason: str
    reward: Reward | None = None
    comparison: Comparison | None = None
    dropped_after: int | None = None  # reward questions that ``reward`` and ``comparison`` speak of
    dropped_members: int | None = None  # adapters that answered, where not all did
    seconds: float = 0.0
