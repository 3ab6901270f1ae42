"""The shapes of what a run leaves behind, as its readers need them: every key but the name may be missing.

Older versions and killed runs lack keys, so these are looser than the types in ``cao.types`` that a run
writes; a key that is there must have its type.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

UNFINISHED, RUNNING = "unfinished", "running"
"""A run without an outcome: nobody works on it, or a process does."""
GENERATED = ("generated", "aligned")
"""The adapters that may take the deployed model's place, in the order in which they come about."""


class _Loose(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Measured(_Loose):
    """A reward as a reader needs it; see ``cao.types.Reward``."""

    score: float
    ci95: tuple[float, float] | None = None
    loss: float | None = None
    n: int | None = None


class Change(_Loose):
    """A candidate against the best so far; see ``cao.types.Comparison``."""

    accuracy_change: float | None = None
    loss_change: float | None = None
    loss_p_value: float | None = None
    accepted: bool = False


class Attempt(_Loose):
    """One attempt of the loop; see ``cao.types.Trial``."""

    strategy: dict[str, Any] | None = None
    raw: str | None = None
    accepted: bool = False
    reason: str = ""
    reward: Measured | None = None
    comparison: Change | None = None
    dropped_after: int | None = None
    dropped_members: int | None = None
    seconds: float | None = None


def changed(reference: Measured | None, change: Change | None) -> Measured | None:
    """Return a reward with a paired change added: that of a candidate which did not answer every question."""
    if reference is None or change is None:
        return None
    loss = None if reference.loss is None or change.loss_change is None else reference.loss + change.loss_change
    return Measured(score=min(1.0, max(0.0, reference.score + (change.accuracy_change or 0.0))), loss=loss)


class Rewards(_Loose):
    """The reward part: the deployed model, the adapters made for it, what the loop started from, what it reached.

    ``comparisons`` sets the generated and the aligned adapter against the deployed model; where one was dropped, it and
    the reward speak of the first ``dropped_after`` questions.
    """

    baseline: Measured | None = None
    generated: Measured | None = None
    aligned: Measured | None = None
    start: Literal["base", "generated", "aligned"] | None = None
    best: Measured | None = None
    comparisons: dict[str, Change | None] = {}
    dropped_after: dict[str, int | None] = {}

    def starts(self) -> dict[str, Measured]:
        """Return what the loop could start from and was measured: the deployed model first."""
        named = {"base": self.baseline, "generated": self.generated, "aligned": self.aligned}
        return {name: reward for name, reward in named.items() if reward is not None}

    def on_all(self, name: str) -> Measured | None:
        """Return what a start may be drawn at: where it was dropped, the deployed model with its paired change."""
        reward = self.starts().get(name)
        dropped = reward is not None and self.dropped_after.get(name) is not None
        return changed(self.baseline, self.comparisons.get(name)) if dropped else reward

    def started(self) -> Measured | None:
        """Return the reward of what the loop started from."""
        return self.starts().get(self.start or "base")


class Compared(_Loose):
    """The evidence against one known task; see ``cao.types.TaskEvidence``."""

    effect: float = 0.0
    p_value: float | None = None


class Drift(_Loose):
    """The drift report; see ``cao.drift.DriftReport``."""

    score: float | None = None
    p_value: float | None = None
    drifted: bool | None = None
    nearest_task: str | None = None
    kind: str | None = None
    caveats: tuple[str, ...] = ()
    sentence: str = ""
    known: dict[str, Compared] = {}
    current: tuple[str, ...] = ()
    n: int | None = None
    alpha: float | None = None


class Side(_Loose):
    """One model on the test part."""

    accuracy: float
    ci95: tuple[float, float] | None = None
    n: int | None = None
    loss: float | None = None


class TestPart(_Loose):
    """What the test part said, once, at the end."""

    __test__ = False  # pytest takes the name for a test class

    baseline: Side
    adapted: Side
    chance: float | None = None
    p_value: float | None = None
    loss_change: float | None = None
    loss_p_value: float | None = None


class Evaluated(_Loose):
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


class Speed(_Loose):
    """What the processor does in each dtype, operations a second; see ``cao.machine.compute.Rates``."""

    float32: float | None = None
    bfloat16: float | None = None
    noisy: bool = False


class Computed(_Loose):
    """What a run computed with; see ``cao.machine.compute.Compute``."""

    dtype: str
    asked: str | None = None
    device: str | None = None
    threads: int | None = None
    processor: str | None = None
    switched_off: dict[str, str] = {}
    rates: Speed | None = None
    reason: str = ""


class Adopted(_Loose):
    """What the run adopted: a start, and a strategy on top of it where one was accepted."""

    start: str | None = None
    strategy: dict[str, Any] | None = None
    adapter: dict[str, Any] | str | None = None


class RunRecord(_Loose):
    """A run as far as it came: ``run.json``, or its configuration and trace where that is not written yet.

    Attributes:
        run_id: the folder's name.
        status: ``improved``, ``no_improvement``, ``unfinished`` or ``running``.
        reason: why nothing was tried, None where something was.
        last_node: the last node seen in the trace, for unfinished runs.
        created: ISO-8601 UTC.
        seconds: time in the graph, s.
        timing_s: node to seconds, s.
        available: the most questions that the reward and the test part could have.
        smallest_detectable: ``loss`` in nats and ``accuracy`` in [0, 1].

    The other attributes are run.json's keys of the command-line contract.
    """

    run_id: str
    status: str = UNFINISHED
    reason: str | None = None
    last_node: str | None = None
    created: str | None = None
    task: str | None = None
    model: str | None = None
    policy: str | None = None
    policy_adapter: str | None = None
    describer: str | None = None
    request_forms: dict[str, str | None] = {}
    protocol: str | None = None
    seed: int | None = None
    splits: dict[str, int] = {}
    available: dict[str, int] = {}
    drift: Drift | None = None
    context: str | None = None
    adapters: dict[str, Any] | None = None
    trials: tuple[Attempt, ...] = ()
    reward: Rewards = Rewards()
    evaluations: Evaluated | None = None
    test: TestPart | None = None
    adopted: Adopted | None = None
    timing_s: dict[str, float] = {}
    seconds: float | None = None
    overhead_share: float | None = None
    peak_memory_mb: float | None = None
    tokens_scored: int | None = None
    smallest_detectable: dict[str, float] | None = None
    compute: Computed | None = None
    versions: dict[str, str] = {}
    config: dict[str, Any] = {}


class RunSummary(_Loose):
    """One line of the list of runs; accuracies in [0, 1], losses in nats."""

    run_id: str
    status: str
    task: str | None = None
    model: str | None = None
    policy: str | None = None
    last_node: str | None = None
    attempts: int = 0
    reward_baseline: float | None = None
    reward_best: float | None = None
    loss_baseline: float | None = None
    loss_best: float | None = None
    test_base: float | None = None
    test_adapted: float | None = None
    test_p_value: float | None = None
    created: str | None = None
    problem: str | None = None
