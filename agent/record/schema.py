"""run.json: the one model that writes it and reads it, and what is known of a run that has none.

``RunRecord`` is the file: every key is there, and no other one. ``Run`` is a run as far as it came, or as an older file
without ``schema_version`` tells it: every key but the name may be missing.
``python -m agent.record.schema`` writes the file's JSON Schema to ``docs/reference/run.schema.json``.
"""

import inspect
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue
from pydantic.json_schema import GenerateJsonSchema

from cao.drift import DriftReport
from cao.files import write_atomic
from cao.machine.compute import Rates
from cao.types import Comparison, Dtype, DtypeChoice, Record, Reward, StrategyFields, Trial

SCHEMA_VERSION: Literal[1] = 1
"""Raised with every change of run.json that an older reader would misread or refuse."""
SCHEMA_FILE = Path("docs/reference/run.schema.json")

GeneratedName = Literal["generated", "aligned"]
StartName = Literal["base", "generated", "aligned"]
"""What the loop may start from; ``base`` is the deployed model."""

UNFINISHED, RUNNING = "unfinished", "running"
"""A run without an outcome: nobody works on it, or a process does."""
GENERATED: tuple[GeneratedName, ...] = ("generated", "aligned")
"""The adapters that may take the deployed model's place, in the order in which they come about."""


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
        saw_task: whether the generator was trained on this task too.
        caveats: what limits the adapters, in sentences without their full stop.
        reason: why an adapter is missing, empty where none is.
    """

    generated: AdapterFile | None = None
    aligned: AdapterFile | None = None
    variant: str | None = None
    saw_task: bool | None = None
    caveats: tuple[str, ...] = ()
    reason: str = ""


class Rewards(Record):
    """The reward part: the deployed model, the adapters made for it, what the loop started from, what it reached.

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


class TestPart(Record):
    """What the test part said, once, at the end; ``chance`` is the accuracy of drawing lots among the choices."""

    __test__ = False  # pytest takes the name for a test class

    baseline: PartScore
    adapted: PartScore
    chance: float | None = None
    p_value: float
    loss_change: float
    loss_p_value: float


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
    """The smallest changes that the reward part could have seen: log-loss in nats, accuracy in [0, 1]."""

    loss: float
    accuracy: float


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


class Adopted(Record):
    """What the run adopted: a start, and a strategy on top of it where one was accepted; what strategy.json holds."""

    start: StartName = "base"
    strategy: StrategyFields | None = None
    adapter: AdapterFile | None = None
    together: Together | None = None
    note: str = ""


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
        drift: what the drift test found.
        context, context_note: τ, the task context, and what a reader should know about it.
        adapters: what was made from the prompts.
        trials, attempts: the attempts, and how many they are.
        reward, evaluations: what was measured on the reward part, and how many questions that took.
        smallest_detectable: the smallest changes that it could have seen, None where nothing was tried.
        adopted, test: what was adopted, None where nothing was; what was measured on the test part.
        timing_s, seconds: time in each node and in the graph, s.
        overhead_share: share of the time that went to the graph, its checkpoints and the trace.
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

    schema_version: Literal[1] = SCHEMA_VERSION
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
    test: TestPart
    timing_s: dict[str, float]
    seconds: float
    overhead_share: float
    peak_memory_mb: float
    created: str
    finished: str
    dtype: Dtype
    compute: Computed
    versions: dict[str, str]
    config: dict[str, JsonValue]


def json_schema() -> str:
    """Return the JSON Schema of run.json, as it lies in ``SCHEMA_FILE``."""
    schema = RunRecord.model_json_schema(mode="serialization")
    named = {"title": "run.json", "description": inspect.getdoc(Run)}
    whole = {"$schema": GenerateJsonSchema.schema_dialect, **schema, **named}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(SCHEMA_FILE, json_schema())
