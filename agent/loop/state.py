"""What the graph carries from node to node, and the workbench that its nodes work with.

The state is small and JSON-able, because every step stores all of it; tensors and per-question items lie on disk.
The workbench holds what cannot be stored: the loaded models, the data and the run's folder.
"""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # typing's own has no JSON schema before Python 3.12

from agent.budget.clock import Clock
from agent.budget.plan import Speed
from agent.config import RunConfig
from agent.loop.trained import Trained
from cao.errors import InputError
from cao.files import sha256_bytes
from cao.model.adapters import LoraWeights
from cao.model.encoder import EncodedPrompts, Encoder
from cao.model.language_model import LanguageModel
from cao.progress import Progress
from cao.tasks.base import Task
from cao.tasks.splits import Splits, part
from cao.types import AdaptedModel, AdapterRef, Protocol
from policies.base import Policy, RequestForm
from tools.evaluate import KeptStates

NO_TIME = Speed(0.0, 0.0, 0.0)


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


class State(TypedDict, total=False):
    """The graph's state; every value is a plain JSON value, models dumped.

    Attributes:
        context: τ, with its source: {text, source, note, form}.
        drift: DriftReport.
        adapters: {generated, aligned}, each AdapterRef or None; {reason, variant, saw_task, caveats} with them.
        best: AdaptedModel to beat.
        best_items: file of its per-question items, relative to the run folder.
        baseline: Reward of the deployed model, None until measured.
        start: what the loop starts from: ``base``, ``generated`` or ``aligned``.
        starts: {generated, aligned}, each None or {reward, comparison with the deployed model, dropped_after}.
        best_reward: Reward to beat, None until measured.
        ended: why the run ends before anything is tried; absent where it does not.
        observed: what was measured of the start, in sentences for the policy.
        request_form: the form of request that the policy's server took last, None where there is no server.
        proposal: the strategy that waits to be applied, or None.
        proposal_seconds: time already spent on the attempt, s.
        candidate: the AdaptedModel that waits to be measured, or None.
        trials: the attempts so far, Trial each.
        evaluations: reward questions asked and answered so far.
        accepted: whether an attempt was accepted, which ends the loop.
        out_of_time: whether the time budget left no room for another attempt, which ends it too.
        reward_seconds: what measuring the deployed model on the reward part took, s.
        adopted: what strategy.json says, at the end.
        status: ``running``, ``improved`` or ``no_improvement``.
        test: what the test part said, at the end.
    """

    context: dict[str, Any]
    drift: dict[str, Any]
    adapters: dict[str, Any]
    best: dict[str, Any]
    best_items: str
    baseline: dict[str, Any] | None
    start: str
    starts: dict[str, Any]
    best_reward: dict[str, Any] | None
    ended: str
    observed: list[str]
    request_form: RequestForm | None
    proposal: dict[str, Any] | None
    proposal_seconds: float
    candidate: dict[str, Any] | None
    trials: list[dict[str, Any]]
    evaluations: Evaluations
    accepted: bool
    out_of_time: bool
    reward_seconds: float
    max_attempts: int
    status: str
    test: dict[str, Any]
    adopted: dict[str, Any] | None


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
    protocol: Protocol
    lm: LanguageModel
    encoder: Encoder
    policy: Policy
    trained: Trained
    states: KeptStates
    record: Callable[..., None]
    progress: Progress
    clock: Clock = field(default_factory=Clock)
    speed: Speed = NO_TIME
    carried: LoraWeights | None = None

    @property
    def store(self) -> Path:
        """The folder of this run's adapters."""
        return self.folder / "adapters"

    def pack(self, record: AdaptedModel | AdapterRef) -> dict[str, Any]:
        """Return a record as the state holds it: its paths relative to the run folder, which may be moved."""
        packed: dict[str, Any] = _paths(record.model_dump(mode="json"), lambda path: os.path.relpath(path, self.folder))
        return packed

    def adapted(self, value: dict[str, Any] | None) -> AdaptedModel:
        """Return an adapted model from the state, its paths resolved."""
        return AdaptedModel.model_validate(_paths(value or {}, lambda path: str(self.folder / path)))

    def adapter(self, value: dict[str, Any] | None) -> AdapterRef | None:
        """Return an adapter's reference from the state, its path resolved."""
        if value is None:
            return None
        return AdapterRef.model_validate(_paths(value, lambda path: str(self.folder / path)))

    def pairs(self) -> list[tuple[str, str | None]]:
        """Return prompts for the describer, with gold answers only where the task has a train part."""
        if not self.task.has_train:
            return [(example.prompt, None) for example in self.splits.support[:8]]
        examples = random.Random(self.seed("pairs")).sample(part(self.task, "train"), 8)
        return [(e.prompt, e.choices[e.answer] if e.choices else e.gold_text) for e in examples]

    def texts(self) -> list[str]:
        """Return the support prompts as the encoder reads them: generators are conditioned and questions routed so."""
        return [example.prompt for example in self.splits.support]

    def encoded(self) -> EncodedPrompts:
        """Return the support prompts encoded, once in a process: what detects, generates and routes reads the same."""
        return self.encoder.hold(self.texts())

    def prompts(self) -> list[str]:
        """Return the support prompts as the model is asked them: no answer is among them."""
        style = self.lm.profile.answer_style
        if self.protocol == "generate":
            return [self.task.ask(example) for example in self.splits.support]
        return [self.task.query(example, style).prefix for example in self.splits.support]

    def seed(self, *labels: object) -> int:
        """Return a seed of its own for one purpose, so that no two random choices share a stream."""
        text = ":".join(str(label) for label in (self.config.seed, *labels))
        return int(sha256_bytes(text.encode())[:8], 16)


class Context(TypedDict):
    """What a run hands its nodes beside the state: a plain schema, as LangGraph's tools read it.

    Attributes:
        workbench: a ``Workbench``; loaded models have no schema, so none is stated.
    """

    workbench: Any


def workbench(context: Context | None) -> Workbench:
    """Return the workbench that a node works with.

    Raises:
        InputError: the graph was started by something that loaded none.
    """
    found = context.get("workbench") if context else None
    if not isinstance(found, Workbench):
        raise InputError(
            "a run needs models, data and a folder, which python -m agent.run --task NAME loads; "
            "LangGraph's server shows the graph and its schemas"
        )
    return found


def _paths(value: Any, change: Callable[[str], str]) -> Any:
    """Return a dumped record with every path in it changed."""
    if isinstance(value, list):
        return [_paths(item, change) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: change(item) if key in ("path", "centroids") and isinstance(item, str) else _paths(item, change)
        for key, item in value.items()
    }
