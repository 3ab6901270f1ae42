"""run.json: the one model that writes it and reads it, and what is known of a run that has none.

``RunRecord`` is the file: every key is there, and no other one. ``Run`` is a run as far as it came, or as an older file
without ``schema_version`` tells it: every key but the name may be missing.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from agent.record.measurements import Counts, Detectable, Rewards, StartName, TestPart, Unjudged
from cao.drift import DriftReport
from cao.machine.compute import Rates
from cao.reading import FileReading
from cao.types import (
    AnswerRule,
    Dtype,
    DtypeChoice,
    LatentSettings,
    Record,
    StrategyFields,
    Trial,
)

SCHEMA_VERSION: Literal[2] = 2
"""Raised with every change of run.json that an older reader would misread or refuse."""

UNFINISHED, RUNNING = "unfinished", "running"
"""A run without an outcome: nobody works on it, or a process does."""


class AdapterFile(Record):
    """An adapter's folder, relative to the run's, and its hash."""

    path: str
    sha256: str


class Adapters(Record):
    """What was made from the prompts before the loop.

    Attributes:
        generated: by the generator, None where there is none.
        aligned: by the aligner, None where there is none.
        variant: which trained generator.
        saw_task: whether the generator was trained on a task of this name, or on its problems in other words.
        saw_questions: how many of the run's questions the generator was trained on, by hashes of their letters and
            digits; null where its index does not hold them.
        caveats: what limits the adapters, in sentences without their full stop.
        reason: why an adapter is missing, empty where none is.
    """

    generated: AdapterFile | None = None
    aligned: AdapterFile | None = None
    variant: str | None = None
    saw_task: bool | None = None
    saw_questions: int | None = None
    caveats: tuple[str, ...] = ()
    reason: str = ""

    @property
    def seen(self) -> str:
        """What is known of whether the generator was trained on what it serves; nothing where no task was named.

        A task's name decides only where the index does not hold the questions: a user may call a file as he likes.
        """
        by_name, questions = self.saw_task, self.saw_questions
        if by_name is None:
            return ""
        if questions is None:
            return "trained on a task of this name" if by_name else "by name never trained on this task"
        if questions:
            return f"trained on {'this task too, and on ' if by_name else ''}{questions} of these questions"
        return (
            "trained on this task, though on none of these questions in these words"
            if by_name
            else "never trained on any of these questions"
        )


class Computed(Record):
    """What a run's last process computed with; see ``cao.machine.compute.Compute``.

    ``asked`` is the dtype that the command line named; ``threads`` and ``processor`` are None where nobody looked.
    """

    dtype: Dtype
    device: str
    threads: int | None = None
    processor: str | None = None
    switched_off: dict[str, str] = Field(default_factory=dict)
    rates: Rates | None = None
    reason: str = ""
    asked: DtypeChoice


class Together(Record):
    """Adapters that answer together: their folders (None: no adapter), by which method, the file of the routes."""

    adapters: tuple[str | None, ...]
    method: str | None
    routes: str | None


NOT_TRIED = "not tried: "
"""How the reason of an attempt begins that there was no time for."""


class Adopted(Record):
    """What the run adopted: a start, and strategies on top of it where some were accepted; what strategy.json holds.

    ``strategy`` is the last accepted one and ``strategies`` are all of them, in the order in which they build on each
    other; ``answer_rule`` is how likelihoods become answers, and ``latent`` what Latent does to each question.
    """

    start: StartName = "base"
    strategy: StrategyFields | None = None
    strategies: tuple[StrategyFields, ...] = ()
    answer_rule: AnswerRule = AnswerRule()
    latent: LatentSettings | None = None
    adapter: AdapterFile | None = None
    together: Together | None = None
    note: str = ""

    @property
    def accepted(self) -> tuple[StrategyFields, ...]:
        """All accepted strategies in their order; a record from before several could be accepted has the one."""
        return self.strategies or ((self.strategy,) if self.strategy else ())


class Run(Record):
    """A run as far as it came or is known: its configuration and trace where no run.json is written yet.

    Attributes:
        schema_version: of run.json, None where there is none or it is older than the key.
        run_id: the folder's name.
        status: ``improved``, ``no_improvement``, ``unfinished`` or ``running``.
        reason: why nothing was tried, None where something was.
        last_node: the last node seen in the trace, for unfinished runs; no key of run.json.
        task: what was adapted to.
        model, model_sha256: the model profile, and the hash of its weights.
        policy, policy_adapter, describer: who proposed, the hash of its training, who wrote the task context.
        request_forms: in which form a server was asked, the describer's and the policy's.
        seed: of every random choice.
        protocol: how answers are judged.
        splits, available: part of the task to its questions, and to the most that it could have.
        drift: the drift test's report.
        context, context_note: τ, the task context, and what a reader should know about it.
        adapters: what was made from the prompts.
        trials, attempts: the attempts, and how many they are.
        reward, evaluations: what was measured on the reward part, and how many questions that took.
        smallest_detectable: the smallest changes that it could have seen, None where nothing was tried.
        adopted, test: what was adopted, None where nothing was; what was measured on the test part, None where there
            are no labels.
        data: how the user's file was read, None for a built-in task.
        missing: what could not be done for want of labels, in sentences without their full stop.
        unjudged: what was made of prompts without labels, None where there are labels.
        timing_s, seconds: time in each node and in the graph, s.
        overhead_share: share of the last process's time that went to the graph, its checkpoints and the trace; None
            where no step ran in that process.
        peak_memory_mb: of the run's last process, MB.
        created, finished: ISO-8601 UTC.
        dtype, compute: what the language model computed in, and with what.
        versions: package to version.
        config: the configuration, as the version that ran has it.
    """

    schema_version: int | None = None
    run_id: str
    status: Literal["improved", "no_improvement", "unfinished", "running"] = "unfinished"
    reason: str | None = None
    last_node: Annotated[str | None, Field(exclude=True)] = None
    task: str | None = None
    model: str | None = None
    model_sha256: str | None = None
    policy: str | None = None
    policy_adapter: str | None = None
    describer: str | None = None
    request_forms: dict[str, str | None] = Field(default_factory=dict)
    seed: int | None = None
    protocol: str | None = None
    splits: dict[str, int] = Field(default_factory=dict)
    available: dict[str, int] = Field(default_factory=dict)
    drift: DriftReport | None = None
    context: str | None = None
    context_note: str = ""
    adapters: Adapters | None = None
    trials: tuple[Trial, ...] = ()
    attempts: int = 0
    reward: Rewards = Rewards()
    evaluations: Counts | None = None
    smallest_detectable: Detectable | None = None
    adopted: Adopted | None = None
    test: TestPart | None = None
    data: FileReading | None = None
    missing: tuple[str, ...] = ()
    unjudged: Unjudged | None = None
    timing_s: dict[str, float] = Field(default_factory=dict)
    seconds: float | None = None
    overhead_share: float | None = None
    peak_memory_mb: float | None = None
    created: str | None = None
    finished: str | None = None
    dtype: Dtype | None = None
    compute: Computed | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    config: dict[str, JsonValue] = Field(default_factory=dict)


class RunRecord(Run):
    """What run.json holds; the keys are described at ``Run``."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    status: Literal["improved", "no_improvement"]
    reason: str | None
    task: str
    model: str
    model_sha256: str
    policy: str
    policy_adapter: str | None
    describer: str
    request_forms: dict[str, str | None]
    seed: int
    protocol: str
    splits: dict[str, int]
    available: dict[str, int]
    drift: DriftReport
    context: str
    context_note: str
    adapters: Adapters
    trials: tuple[Trial, ...]
    attempts: int
    reward: Rewards
    evaluations: Counts
    smallest_detectable: Detectable | None
    adopted: Adopted | None
    test: TestPart | None
    timing_s: dict[str, float]
    seconds: float
    overhead_share: float | None
    peak_memory_mb: float
    created: str
    finished: str
    dtype: Dtype
    compute: Computed
    versions: dict[str, str]
    config: dict[str, JsonValue]
