"""What the graph carries from node to node, and the workbench that its nodes work with.

The state is small and JSON-able, because every step stores all of it; tensors and per-question items lie on disk.
Nodes see typed records, checkpoints hold plain JSON; ``dump_state`` and ``load_state`` stand between them.
The workbench holds what cannot be stored: the loaded models, the data and the run's folder.
"""

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import (
    Literal,
    NotRequired,  # typing's own has no JSON schema before Python 3.12
    TypeVar,
)

from pydantic import JsonValue, TypeAdapter
from typing_extensions import TypedDict

from agent.budget.clock import Clock
from agent.budget.plan import Speed
from agent.config import RunConfig
from agent.loop.trained import Trained
from agent.record.events import Start
from agent.record.measurements import Evaluations, GeneratedName, RuleRewards, StartName, TestPart, Unjudged
from agent.record.schema import Adopted
from cao.drift import DriftReport
from cao.errors import InputError
from cao.files import sha256_bytes
from cao.model.adapters import LoraWeights
from cao.model.encoder import EncodedPrompts, Encoder
from cao.model.language_model import LanguageModel
from cao.progress import Progress
from cao.strategies import Standing
from cao.tasks.base import Task, encoder_text
from cao.tasks.splits import Splits, part
from cao.types import AdaptedModel, AdapterRef, AnswerProtocol, PriorKind, Reward, StrategyFields, Trial, Until
from policies.base import Policy, RequestForm
from policies.describe import Description
from tools.evaluate import HiddenCache
from tools.evaluate.priors import priors_of

NO_TIME = Speed(0.0, 0.0, 0.0)

Refers = TypeVar("Refers", AdaptedModel, AdapterRef)
"""A record that names files."""


class Made(TypedDict):
    """What was made from the prompts before the loop; see ``agent.record.schema.Adapters``."""

    generated: AdapterRef | None
    aligned: AdapterRef | None
    variant: str | None
    saw_task: bool | None
    saw_questions: NotRequired[int | None]  # older versions did not ask
    caveats: list[str]
    reason: str


Starts = dict[GeneratedName, Start | None]
"""The generated adapters as the loop's start, None where there is no such adapter."""


class State(TypedDict, total=False):
    """The graph's state as its nodes see it; a step stores it as plain JSON, see ``dump_state`` and ``load_state``.

    Paths in it are relative to the run's folder, which may be moved.

    Attributes:
        context: τ, with its source.
        drift: the drift test's report.
        adapters: what was made from the prompts.
        base: the deployed model under its own best answer rule, which gains are measured against.
        rules: what the deployed model and the adapters score under each answer rule.
        best: the model to beat.
        best_items: file of its per-question items, relative to the run folder.
        baseline: the reward of ``base``, None until measured.
        start: what the loop starts from.
        started: that model.
        starts: what else it could have started from.
        best_reward: the reward to beat, None until measured.
        ended: why the run ends before anything is tried; absent where it does not.
        observed: what was measured of the start, in sentences for the policy.
        features: what is known of the task without a label, in numbers for the policy.
        request_form: the form of request that the policy's server took last, None where there is no server.
        proposal: the strategy that waits to be applied, or None.
        proposal_seconds: time already spent on the attempt, s.
        candidate: the model that waits to be measured, or None.
        trials: the attempts so far.
        evaluations: reward questions asked and answered so far.
        accepted: whether an attempt was accepted, which ends the loop where it goes on until the first.
        steps: the models that accepted attempts made; each builds on the one before it.
        until: when the loop ends.
        out_of_time: whether the time budget has no room for another attempt, which ends it too.
        reward_seconds: what measuring the deployed model on the reward part took, s.
        max_attempts: how many attempts there may be.
        adopted: what strategy.json says, at the end.
        status: ``running``, ``improved`` or ``no_improvement``.
        test: what the test part said, at the end; None without labels.
        unjudged: what was made of prompts without labels; absent where there are labels.
    """

    context: Description
    drift: DriftReport
    adapters: Made
    base: AdaptedModel
    rules: list[RuleRewards]
    best: AdaptedModel
    best_items: str
    baseline: Reward | None
    start: StartName
    started: AdaptedModel
    starts: Starts
    best_reward: Reward | None
    ended: str
    observed: list[str]
    features: dict[str, float]
    request_form: RequestForm | None
    proposal: StrategyFields | None
    proposal_seconds: float
    candidate: AdaptedModel | None
    trials: list[Trial]
    evaluations: Evaluations
    accepted: bool
    steps: list[AdaptedModel]
    until: Until
    out_of_time: bool
    reward_seconds: float
    max_attempts: int
    status: Literal["running", "improved", "no_improvement"]
    test: TestPart | None
    adopted: Adopted | None
    unjudged: Unjudged


Stored = dict[str, JsonValue]
"""A state, or a part of one, as checkpoints hold it."""

_STATE = TypeAdapter(State)


def load_state(stored: Mapping[str, object]) -> State:
    """Return the state that was stored.

    Raises:
        ValidationError: it is none.
    """
    return _STATE.validate_python(stored)


def dump_state(state: State) -> Stored:
    """Return a state, or an update of one, as it is stored."""
    stored: Stored = _STATE.dump_python(state, mode="json")
    return stored


def accepted_strategies(state: State) -> list[StrategyFields]:
    """Return the strategies that were accepted, in the order in which they build on each other."""
    return [trial.strategy for trial in state["trials"] if trial.accepted and trial.strategy]


@dataclass(frozen=True)
class Workbench:
    """The loaded things a run works with; never stored.

    Attributes:
        config: the run's configuration.
        folder: the run's folder; nothing is written outside it.
        task: what is adapted to.
        splits: its support, reward and test questions.
        protocol: likelihood or generate.
        lm: the language model.
        encoder: the frozen encoder.
        policy: who proposes.
        trained: the generator and the aligner for this base model, where there are any.
        states: hidden states kept between measurements.
        record: writes one event to the trace: (node, event, data).
        progress: shows long work to the person at the terminal.
        clock: how much of the run's time is left.
        speed: what this machine needs for the model.
        carried: the adapter that the deployed model carries; None where it carries none, or one merged into it.
    """

    config: RunConfig
    folder: Path
    task: Task
    splits: Splits
    protocol: AnswerProtocol
    lm: LanguageModel
    encoder: Encoder
    policy: Policy
    trained: Trained
    states: HiddenCache
    record: Callable[..., None]
    progress: Progress
    clock: Clock = field(default_factory=Clock)
    speed: Speed = NO_TIME
    carried: LoraWeights | None = None

    @property
    def store(self) -> Path:
        """The folder of this run's adapters."""
        return self.folder / "adapters"

    def pack(self, record: Refers) -> Refers:
        """Return a record as the state holds it: its paths relative to the run folder, which may be moved."""
        return record.moved(lambda path: os.path.relpath(path, self.folder))

    def adapted(self, value: AdaptedModel | None) -> AdaptedModel:
        """Return an adapted model from the state, its paths resolved."""
        return (value or AdaptedModel()).moved(lambda path: str(self.folder / path))

    def adapter(self, value: AdapterRef | None) -> AdapterRef | None:
        """Return an adapter's reference from the state, its path resolved."""
        return value and value.moved(lambda path: str(self.folder / path))

    def pairs(self) -> list[tuple[str, str | None]]:
        """Return prompts for the describer, with gold answers only where the task has a train part."""
        if not self.task.has_train:
            return [(example.prompt, None) for example in self.splits.support[:8]]
        examples = random.Random(self.seed("pairs")).sample(part(self.task, "train"), 8)
        return [(e.prompt, e.choices[e.answer] if e.choices else e.gold_text) for e in examples]

    def texts(self) -> list[str]:
        """Return the support prompts as the encoder reads them: generators are conditioned and questions routed so."""
        return [encoder_text(example) for example in self.splits.support]

    def encoded(self) -> EncodedPrompts:
        """Return the support prompts encoded, once in a process."""
        return self.encoder.hold(self.texts())

    def prompts(self, part: Literal["support", "reward", "test"] = "support") -> list[str]:
        """Return a part's prompts as the model is asked them: no answer is among them."""
        style, examples = self.lm.profile.answer_style, getattr(self.splits, part)
        if self.protocol == "generate":
            return [self.task.ask(example) for example in examples]
        return [self.task.asked(example, style) for example in examples]

    @cached_property
    def priors(self) -> tuple[PriorKind, ...]:
        """The priors that an answer rule can take off, on every part; no answer is read."""
        support, style = self.splits.support, self.lm.profile.answer_style
        answered = (*self.splits.reward, *self.splits.test) or support
        if self.protocol != "likelihood" or not all(example.choices for example in answered):
            return ("none",)
        if all(example.choices for example in support):
            return priors_of(self.task, (*support, *answered), style)
        found = priors_of(self.task, answered, style)  # prompts without choices say nothing of a label's mean
        return tuple(kind for kind in found if kind != "batch")

    def standing(self, current: AdaptedModel, started: AdaptedModel | None = None) -> Standing:
        """Return what a strategy would act on.

        Args:
            current: the model to beat, its paths resolved.
            started: what the loop started from; None where no strategy was accepted.
        """
        changed = started is not None and current.members != started.members
        ranks, made, pool = self.protocol == "likelihood", self.trained.generator is not None, tuple(self.trained.pool)
        name, peft = self.lm.profile.name, self.config.ttl.peft
        return Standing(current, name, made, ranks=ranks, priors=self.priors, pool=pool, peft=peft, changed=changed)

    def seed(self, *labels: object) -> int:
        """Return a seed of its own for one purpose, so that no two random choices share a stream."""
        text = ":".join(str(label) for label in (self.config.seed, *labels))
        return int(sha256_bytes(text.encode())[:8], 16)


class Context(TypedDict):
    """What a run hands its nodes beside the state: a plain schema, as LangGraph's tools read it.

    ``workbench`` is a ``Workbench``; loaded models have no schema, so none is stated.
    """

    workbench: object


def workbench(context: Context | None) -> Workbench:
    """Return the workbench that a node works with.

    Raises:
        InputError: the graph was started by something that loaded none.
    """
    bench = context.get("workbench") if context else None
    if not isinstance(bench, Workbench):
        raise InputError(
            "a run needs models, data and a folder, which python -m agent.run --task NAME loads, and "
            "agent.studio for LangGraph's server"
        )
    return bench
