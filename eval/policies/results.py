"""What the table of policies holds, from the measurement to the page; ``policies.json`` is this and nothing else."""

from pydantic import Field, JsonValue

from agent.train.policy.costs import Costs
from agent.train.policy.report import Empty, Side
from agent.train.policy.rest_em import Sampling
from agent.train.policy.settings import Tuning
from cao.types import Record, StrategyFields
from eval.measured import Measured
from eval.pages.absent import is_false

Interval = tuple[float, float]


class TrainingSettings(Record):
    """What a training was for, as ``agent.train_policy`` states it."""

    config: dict[str, JsonValue]
    tasks: tuple[str, ...]
    held_out: tuple[str, ...]
    seeds: int
    sampling: Sampling
    tuning: Tuning
    bare: bool = False
    budget: int | None
    landscape: bool = Field(default=False, exclude_if=is_false)
    warm_start: bool
    seed: int


class TrainingReport(Record):
    """A finished training: its settings, its samples and its costs."""

    settings: TrainingSettings
    iterations: tuple[dict[str, Side | Empty], ...]
    costs: Costs


class TaskRole(Record):
    """Whether no policy of the table was trained on a task."""

    held_out: bool


class Family(Record):
    """The points of one family of the grid in one situation.

    Attributes:
        measured: how many.
        improve: those that improve the model, each with its change of the log-loss.
    """

    measured: int
    improve: tuple[tuple[StrategyFields, float], ...]


class Cell(Record):
    """What came of one policy in one situation; gains are (accuracy, log-loss), 0 where nothing was adopted.

    Attributes:
        first: first attempts that improve the model, and all of them.
        improved: whether its loop adopted a strategy.
        attempts: of its loop; all of them where it adopted nothing.
        adopted: the strategy.
        reward: gain on the reward part.
        test: gain on the test part.
    """

    first: tuple[int, int]
    improved: bool
    attempts: int
    adopted: StrategyFields | None
    reward: tuple[float, float]
    test: tuple[float, float]


Cells = dict[str, Cell]
"""Situation, which is ``TASK-SEED`` → what came of a policy there."""


class Mean(Record):
    """A mean over tasks and seeds with its bootstrap interval."""

    mean: float
    ci95: Interval


class Ratio(Record):
    """A ratio of two means with its bootstrap interval, None where too many draws have no ratio."""

    mean: float
    ci95: Interval | None


class Versus(Record):
    """First attempts of one policy against another's in the same situations.

    Attributes:
        tasks: that both speak of.
        differ: of them, those on which their mean success differs; the others say nothing of which is better.
        difference: of the success rates.
        ci95: its interval.
        ratio: of the success rates, None where the other never succeeds.
        ratio_ci95: its interval, None where too many draws have no ratio.
        p: two-sided, by flipping the signs of the tasks' mean differences.
    """

    tasks: tuple[str, ...]
    differ: int
    difference: float
    ci95: Interval
    ratio: float | None
    ratio_ci95: Interval | None
    p: float


class Verdict(Record):
    """What one policy came to over some tasks.

    Attributes:
        tasks: those of them that it speaks of.
        first: share of first attempts that improve the model.
        improved: share of loops that adopt a strategy.
        attempts: of a loop.
        reward_accuracy: gain on the reward part, as are the next three on either part.
        reward_loss: change of the log-loss, negative is better.
        test_accuracy: gain.
        test_loss: change.
        against_random: its first attempts against those of the random policy.
    """

    tasks: tuple[str, ...]
    first: Mean
    improved: Mean
    attempts: Mean
    reward_accuracy: Mean
    reward_loss: Mean
    test_accuracy: Mean
    test_loss: Mean
    against_random: Versus | None


Verdicts = dict[str, Verdict]
"""Policy → its verdict."""


class Aim(Record):
    """Whether the last trained policy reaches what it is to reach on held-out tasks.

    Attributes:
        policy: its row.
        against: the other policy → the comparison.
        times_random: its success rate over the random policy's.
        reached_random: whether that is enough, and its interval excludes equality.
        above_every_fixed: whether it surely succeeds more often than every fixed choice.
        oracle: gain of the grid's best point in accuracy on test.
        oracle_p: of that gain, by the test of ``Versus``.
        adopted: that of what the policy's loop adopts.
        share: of the oracle's gain that is found so, None where the oracle gains nothing.
        over_base: accuracy on test of what the loop leaves, less that of the base model by its own best rule.
        over_base_p: of that difference, likewise.
        lowest: the task on which that difference is lowest, and the difference.
        repaired: that difference on the task that is to be repaired, None where it is not among the tasks.
    """

    policy: str
    against: dict[str, Versus | None]
    times_random: float | None
    reached_random: bool
    above_every_fixed: bool
    oracle: Mean
    oracle_p: float
    adopted: Mean
    share: Ratio | None
    over_base: Mean
    over_base_p: float
    lowest: tuple[str, float]
    repaired: float | None


class Untouched(Record):
    """Accuracies on the test part of a situation before the loop.

    Attributes:
        base: of the base model by its own best rule.
        start: of what the loop starts from.
        guessing: of guessing.
        n: questions.
    """

    base: float
    start: float
    guessing: float
    n: int


class PoliciesResult(Measured):
    """What was measured.

    Attributes:
        trainings: folder's name → its report; empty where what ships is judged.
        practised: tasks that a policy of the table was trained on.
        policies: trained row → hash of its adapter.
        rule: by which a strategy improves the model.
        reward: questions.
        support: prompts.
        limit: test questions, at most.
        draws: first attempts of a policy that draws.
        attempts: of a loop, at most.
        free: texts without the grammar for each task.
        seeds: each chose other questions.
        arms_practised: measurements that the bandit knows.
        tasks: task → whether it is held out.
        rows: policy → what it is.
        starts: situation → what its loop starts from.
        untouched: situation → what the models before the loop reach on test.
        points: the grid's.
        landscape: situation → family → its points.
        cells: policy → situation → what came of it.
        valid: policy → texts that are strategies without the grammar, and all of them.
    """

    trainings: dict[str, TrainingReport]
    practised: tuple[str, ...]
    policies: dict[str, str]
    rule: str
    reward: int
    support: int
    limit: int
    draws: int
    attempts: int
    free: int
    seeds: tuple[int, ...]
    arms_practised: int
    tasks: dict[str, TaskRole]
    rows: dict[str, str]
    starts: dict[str, str]
    untouched: dict[str, Untouched]
    points: tuple[StrategyFields, ...]
    landscape: dict[str, dict[str, Family]]
    cells: dict[str, Cells]
    valid: dict[str, tuple[int, int]]

    def names(self, *, held_out: bool) -> list[str]:
        """Return the tasks that are held out, or those that are not."""
        return [name for name, task in self.tasks.items() if task.held_out == held_out]


class PoliciesPage(PoliciesResult):
    """What was measured, and what it says: the content of ``policies.json``.

    Attributes:
        judged: ``held_out`` or ``practised`` → the verdicts over those tasks.
        aim: on held-out tasks.
    """

    judged: dict[str, Verdicts]
    aim: Aim | Empty
