"""What a table of the paper holds, from the measurement to the page; ``tableN.json`` is this."""

from pydantic import Field

from cao.types import AcceptRule, AnswerProtocol, Record
from eval.baselines.baseline import Spent
from eval.measured import Measured
from eval.pages.absent import is_empty, is_none

Interval = tuple[float, float]

KINDS = ("in domain", "out of domain")


class Cell(Record):
    """A row on a task.

    Attributes:
        accuracy: share of the test questions, by each model's own best rule, mean over seeds.
        ci95: paired bootstrap over questions and seeds; Wilson's where no draw differs.
        default: by the default rule.
        log_loss: of the choice, nats, at each model's own temperature.
        at_chance: in how many seeds it is no better than guessing.
        seeds: that it was adapted with.
        parsable: share of the written texts that give an answer (``tools.evaluate.written``); None of ranked ones.
        notes: what was made, a seed each.
        adapters: hash of each seed's adapter, empty where it has none or several.
        right: of each seed, 1 for each test question that is answered rightly, else 0, by the model's own best rule.
    """

    accuracy: float
    ci95: Interval
    default: float
    log_loss: float
    at_chance: int
    seeds: int
    parsable: float | None = Field(default=None, exclude_if=is_none)
    notes: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    right: tuple[str, ...] = Field(default=(), exclude_if=is_empty)


class Mean(Record):
    """A row over the tasks of one kind, those that it has; its accuracy is the mean over tasks."""

    tasks: tuple[str, ...]
    accuracy: float
    ci95: Interval


class Versus(Record):
    """One row against another, on the tasks of one kind that both have.

    Attributes:
        row: the one.
        other: the other.
        kind: of tasks.
        tasks: that both have.
        accuracy: mean difference; positive where ``row`` is better.
        ci95: paired bootstrap over questions and seeds; the tasks are the table's.
        p_value: two-sided, of that bootstrap.
        holm: the same, corrected for all comparisons of the table.
        plain: mean difference by the plain rule; None where answers are written, or where nobody kept it.
        plain_ci95: its interval, likewise.
    """

    row: str
    other: str
    kind: str
    tasks: tuple[str, ...]
    accuracy: float
    ci95: Interval
    p_value: float
    holm: float
    plain: float | None = Field(default=None, exclude_if=is_none)
    plain_ci95: Interval | None = Field(default=None, exclude_if=is_none)

    @property
    def surely_better(self) -> bool:
        """Whether the interval and the corrected p-value say that it is better."""
        return self.accuracy > 0 and self.ci95[0] > 0 and self.holm < 0.05

    @property
    def surely_worse(self) -> bool:
        """Whether the interval and the corrected p-value say that it is worse."""
        return self.accuracy < 0 and self.ci95[1] < 0 and self.holm < 0.05


class Choice(Record):
    """What another row for each task is worth: chosen on one half of the test questions, judged on the other.

    Attributes:
        best: task → the row that is best there, on all questions.
        single: the row that is best over all tasks.
        gain: accuracy of choosing for each task over that of one row for all, both chosen on the half not judged.
        ci95: bootstrap over questions.
    """

    best: dict[str, str]
    single: str
    gain: float
    ci95: Interval


class RowResult(Record):
    """A row.

    Attributes:
        cells: task → what it reaches.
        absent: task → why it has none.
        means: kind of tasks → over those tasks.
        spent: on choosing a rate and preparing, and on a target; means over its cells.
    """

    cells: dict[str, Cell]
    absent: dict[str, str]
    means: dict[str, Mean]
    spent: tuple[Spent, Spent] | None = Field(default=None, exclude_if=is_none)


class TableResult(Measured):
    """Everything that was measured for a table.

    Attributes:
        share: of the generator's tokens, which a baseline might read before its target was known.
        adapting: share of the tokens of ten steps on 25 questions, which it might read of the target.
        rates: that it might choose from.
        rule_choice: which of the answer rules a model took, in words.
        kinds: task → ``in domain`` or ``out of domain``.
        chance: task → accuracy of guessing.
        n: task → test questions.
        accept: the rule of acceptance of whole runs; tables from before there was a choice had ``confident``.
        versus: the comparisons of the table.
        questions: task → ids of its test questions, in the order of ``right``.
        practised: tasks on whose other questions the policy of the whole runs practised.
        reworded: tasks whose problems, with other names and numbers, are in a source of the generator that serves them.
        choice: what choosing between the rows is worth; left out where the table does not ask.
    """

    machine: str
    preset: str
    protocol: AnswerProtocol
    rules: str
    share: float
    adapting: float
    rates: tuple[float, ...]
    reward: int
    rule_choice: str
    accept: AcceptRule = "confident"
    limit: int
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    kinds: dict[str, str]
    chance: dict[str, float]
    n: dict[str, int]
    rows: dict[str, RowResult]
    versus: tuple[Versus, ...]
    questions: dict[str, tuple[str, ...]] = Field(default_factory=dict, exclude_if=is_empty)
    practised: tuple[str, ...] = ()
    reworded: tuple[str, ...] = Field(default=(), exclude_if=is_empty)
    choice: Choice | None = Field(default=None, exclude_if=is_none)

    def pair(self, row: str, other: str, kind: str) -> Versus | None:
        """Return a comparison, None where no task of the kind has both."""
        return next((v for v in self.versus if (v.row, v.other, v.kind) == (row, other, kind)), None)
