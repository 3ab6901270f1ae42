"""What the table of generated adapters holds, from the measurement to the page; ``generation.json`` is this."""

from pydantic import Field

from cao.types import Record
from eval.bench.cost import Cost
from eval.pages.absent import is_none

Interval = tuple[float, float]


class Change(Record):
    """How a kind of adapter differs from another on the same questions, with bootstrap intervals.

    Attributes:
        nll: of the gold answer per character, nats; negative is better.
        nll_ci95: its interval.
        accuracy: share of questions.
        accuracy_ci95: its interval.
    """

    nll: float
    nll_ci95: Interval
    accuracy: float
    accuracy_ci95: Interval


class KindScore(Record):
    """What one kind of adapter reaches on one task.

    Attributes:
        nll: of the gold answer per character, nats.
        accuracy: share of questions.
        ci95: its Wilson interval.
        log_loss: of the choice, nats.
        seeds: adapters of this kind.
        change: against the base model, left out for that one itself.
    """

    nll: float
    accuracy: float
    ci95: Interval
    log_loss: float
    seeds: int
    change: Change | None = Field(default=None, exclude_if=is_none)


class KindAverage(Record):
    """The same as a mean over tasks, without seeds."""

    nll: float
    accuracy: float
    log_loss: float
    change: Change | None = Field(default=None, exclude_if=is_none)


class Tests(Record):
    """A kind of adapter against the base model.

    Attributes:
        lost: questions of the first seed that only the base model answers right.
        gained: those that only the adapter does.
        mcnemar_p: exact, two-sided, of the first seed.
        nll_p: one-sided, that the gold NLL, mean over seeds, is lower.
    """

    lost: int
    gained: int
    mcnemar_p: float
    nll_p: float


class Recovery(Record):
    """The share of the checkpoint's gain that an adapter reaches; no interval where no draw's checkpoint gains."""

    ratio: float
    ci95: Interval | None


class MeanRecovery(Recovery):
    """The mean over the tasks whose checkpoint gains."""

    tasks: tuple[str, ...]


class Setting(Record):
    """What a task's adapters were made from.

    Attributes:
        variant: the generator that serves it.
        in_domain: whether it was a source, so that there is a checkpoint of it.
        prompts: seed → support prompts.
        nearest: seed → the nearest source.
        wrong: the tasks whose prompts served as wrong ones.
        adapters: kind → beginnings of the adapters' hashes.
    """

    variant: str
    in_domain: bool
    prompts: dict[str, int]
    nearest: dict[str, str]
    wrong: tuple[str, ...]
    adapters: dict[str, tuple[str, ...]]


class Scores(Record):
    """What a task's answers say.

    Attributes:
        n: questions.
        rows: kind of adapter → what it reaches.
        tests: judged kind → against the base model.
        versus: judged kind → control → the change against it.
        recovery: kind → its ratio, None where the checkpoint gains nothing; None where there is no checkpoint.
    """

    n: int
    rows: dict[str, KindScore]
    tests: dict[str, Tests]
    versus: dict[str, dict[str, Change]]
    recovery: dict[str, Recovery | None] | None


class TaskResult(Scores, Setting):
    """One task of the table: how its adapters were made, and what their answers say."""


class KindAims(Record):
    """Counts over tasks for one judged kind.

    Attributes:
        below_base: tasks whose gold NLL is below the base model's.
        surely_below_base: those whose whole interval is.
        points: mean change of the accuracy against the base model, points.
        worse: tasks that lost more than a point.
        below: control → tasks whose gold NLL is below its.
        surely_below: the same by the whole interval.
    """

    below_base: tuple[str, ...]
    surely_below_base: tuple[str, ...]
    points: float
    worse: tuple[str, ...]
    below: dict[str, tuple[str, ...]]
    surely_below: dict[str, tuple[str, ...]]


class Aims(Record):
    """What the aims are held against.

    Attributes:
        tasks: how many.
        generated: counts of the generated adapters.
        aligned: counts of the aligned ones.
        recovery: kind → its mean ratio, None where no checkpoint gains.
    """

    tasks: int
    generated: KindAims
    aligned: KindAims
    recovery: dict[str, MeanRecovery | None]

    def kinds(self) -> dict[str, KindAims]:
        """Return judged kind → its counts."""
        return {"generated": self.generated, "aligned": self.aligned}


class Spread(Record):
    """Mean, lowest and highest of some cosines."""

    mean: float
    low: float
    high: float


class Alikeness(Record):
    """How alike the tasks' adapters are.

    Attributes:
        matrix: (T, T) cosines, rounded.
        within: tasks, from disjoint halves of their prompts.
        between: different tasks; None for a single one.
    """

    matrix: tuple[tuple[float, ...], ...]
    within: Spread | None
    between: Spread | None


class Cosines(Record):
    """Cosines of ΔW between adapters that one generator makes.

    Attributes:
        variant: the generator.
        seed: of the support prompts.
        tasks: T names.
        whole: of ΔW.
        centred: of ΔW less the mean over tasks.
    """

    variant: str
    seed: int
    tasks: tuple[str, ...]
    whole: Alikeness
    centred: Alikeness


class Consolidated(Record):
    """The consolidation that was measured."""

    folder: str
    model: str
    model_sha256: str
    preset: str
    seed: int
    sources: tuple[str, ...]


class GenerationResult(Record):
    """What was measured.

    Attributes:
        command: that measured it.
        table: ``generation``.
        measured: the day.
        consolidation: what was measured.
        split: part of each task.
        limit: questions of a task, at most.
        seeds: each chose other support prompts.
        device: torch device.
        dtype: what the model computed in; pages from before that was chosen do not say it.
        bootstrap: draws.
        aligner_target: what the aligner was trained towards.
        tasks: task → what was measured there.
        average: kind → its mean over tasks.
        aims: counts over tasks.
        cosines: how alike adapters are.
        cost: of one adapter.
    """

    command: str
    table: str
    measured: str
    consolidation: Consolidated
    split: str
    limit: int
    seeds: tuple[int, ...]
    device: str
    dtype: str | None = Field(default=None, exclude_if=is_none)
    bootstrap: int
    aligner_target: str
    tasks: dict[str, TaskResult]
    average: dict[str, KindAverage]
    aims: Aims
    cosines: Cosines
    cost: Cost
