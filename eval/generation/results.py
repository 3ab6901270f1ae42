"""What the table of generated adapters holds, from the measurement to the page; ``generation.json`` is this."""

from typing import Literal

from pydantic import Field

from cao.types import Record
from eval.bench.cost import Cost
from eval.generation.cosines import Cosines
from eval.generation.retention import Retention
from eval.pages.absent import is_none

Interval = tuple[float, float]

FORMAT: Literal[2] = 2
"""Version of the figures; those of 1 knew one answer rule for all."""


class Change(Record):
    """How a kind of adapter differs from another on the same questions, with bootstrap intervals.

    Attributes:
        nll: of the gold answer per character, nats; negative is better.
        nll_ci95: its interval.
        accuracy: share of questions, each side by its own best rule.
        accuracy_ci95: its interval.
        log_loss: of the choice, nats, likewise; negative is better.
        log_loss_ci95: its interval.
    """

    nll: float
    nll_ci95: Interval
    accuracy: float
    accuracy_ci95: Interval
    log_loss: float
    log_loss_ci95: Interval


class KindAverage(Record):
    """What one kind of adapter reaches.

    Attributes:
        nll: of the gold answer per character, nats.
        accuracy: share of questions, by each adapter's own best rule.
        log_loss: of the choice by that rule, nats, at each adapter's own temperature.
        default_accuracy: share of questions by the default rule.
        default_log_loss: of the choice by that rule.
        change: against the base model, left out for that one itself.
    """

    nll: float
    accuracy: float
    log_loss: float
    default_accuracy: float
    default_log_loss: float
    change: Change | None = Field(default=None, exclude_if=is_none)


class KindScore(KindAverage):
    """The same on one task.

    Attributes:
        ci95: Wilson interval of the accuracy.
        seeds: adapters of this kind.
        at_chance: how many of them are no better than guessing: the interval of the accuracy holds it, or the
            log-loss is not below that of guessing.
        rules: the best rule of each, in words.
    """

    ci95: Interval
    seeds: int
    at_chance: int
    rules: tuple[str, ...]


class Tests(Record):
    """A kind of adapter against the base model, each by its own best rule.

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


class Nearest(Record):
    """The source whose prompts are nearest to a task's support prompts, and their cosine."""

    source: str
    cosine: float


class Neighbours(Record):
    """Sources of a generator that are near to a task.

    Attributes:
        nearest: seed → the nearest source.
        sharing: sources that are about the same subject.
    """

    nearest: dict[str, Nearest]
    sharing: tuple[str, ...]


class Setting(Record):
    """What a task's adapters were made from.

    Attributes:
        variant: the generator that serves it.
        in_domain: whether it is one of the paper's six, or a source, so that there is a checkpoint of it.
        prompts: seed → support prompts.
        subjects: what the task is about.
        near: sources of that generator.
        paper: those of the generator of the six in-domain tasks, where it is compared.
        wrong: the tasks whose prompts served as wrong ones.
        adapters: kind → beginnings of the adapters' hashes.
    """

    variant: str
    in_domain: bool
    prompts: dict[str, int]
    subjects: tuple[str, ...]
    near: Neighbours
    paper: Neighbours | None
    wrong: tuple[str, ...]
    adapters: dict[str, tuple[str, ...]]


class Scores(Record):
    """What a task's answers say.

    Attributes:
        n: questions.
        chance: accuracy of guessing.
        rows: kind of adapter → what it reaches.
        tests: judged kind → against the base model.
        versus: judged kind → any other kind → the change against it.
        recovery: kind → its ratio, None where the checkpoint gains nothing; None where there is no checkpoint.
    """

    n: int
    chance: float
    rows: dict[str, KindScore]
    tests: dict[str, Tests]
    versus: dict[str, dict[str, Change]]
    recovery: dict[str, Recovery | None] | None


class TaskResult(Scores, Setting):
    """One task of the table: how its adapters were made, and what their answers say."""


class Contrast(Record):
    """A judged kind against another one, over the tasks that have both.

    Attributes:
        tasks: how many.
        change: mean over them; its intervals draw tasks, questions and seeds.
        below: those whose gold NLL is lower.
        surely_below: those whose whole interval is.
    """

    tasks: int
    change: Change
    below: tuple[str, ...]
    surely_below: tuple[str, ...]


class KindAims(Record):
    """What is claimed of one judged kind.

    Attributes:
        worse: tasks on which it is more than a point below the base model.
        against: kind → against that one; ``base`` is among them.
    """

    worse: tuple[str, ...]
    against: dict[str, Contrast]


class GroupAverage(KindAverage):
    """The same as a mean over the tasks that have this kind; ``tasks`` says how many."""

    tasks: int


class Group(Record):
    """Several tasks together.

    Attributes:
        tasks: their names.
        average: kind → its mean.
        aims: judged kind → what is claimed of it.
    """

    tasks: tuple[str, ...]
    average: dict[str, GroupAverage]
    aims: dict[str, KindAims]


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
        format: version of these figures.
        command: that measured it.
        table: ``generation``.
        measured: the day.
        consolidation: what was measured.
        split: part of each task that is reported.
        limit: questions of a task, at most.
        reward: questions that answer rules are chosen on, at most.
        rule_choice: which of the answer rules a model took, in words.
        seeds: each chose other support prompts.
        device: torch device.
        dtype: what the model computed in.
        bootstrap: draws.
        aligner_target: what the aligner was trained towards, None where there is none.
        missing: kind of adapter → why it is not there, on all tasks or on some.
        tasks: task → what was measured there.
        every: all tasks together.
        far: those without a source of their subject, None where there are none or all are.
        recovery: kind → its mean ratio, None where no checkpoint gains.
        retention: what adapters cost where they were not made for, None for fewer than two tasks or not asked for.
        cosines: how alike adapters are.
        cost: of one adapter.
    """

    format: Literal[2] = FORMAT
    command: str
    table: str
    measured: str
    consolidation: Consolidated
    split: str
    limit: int
    reward: int
    rule_choice: str
    seeds: tuple[int, ...]
    device: str
    dtype: str
    bootstrap: int
    aligner_target: str | None
    missing: dict[str, str]
    tasks: dict[str, TaskResult]
    every: Group
    far: Group | None
    recovery: dict[str, MeanRecovery | None]
    retention: Retention | None
    cosines: Cosines
    cost: Cost
