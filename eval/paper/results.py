"""What Table 2 holds, from the measurement to the page; ``table2.json`` is this."""

from pydantic import Field

from cao.types import Record
from eval.baselines.baseline import Spent
from eval.pages.absent import is_none

Interval = tuple[float, float]


class Cell(Record):
    """A method on a task.

    Attributes:
        accuracy: share of the test questions, by each adapter's own best rule, mean over seeds.
        ci95: paired bootstrap over questions and seeds.
        default: by the default rule.
        log_loss: of the choice, nats, at each adapter's own temperature.
        at_chance: in how many seeds it is no better than guessing.
        seeds: that it was adapted with.
    """

    accuracy: float
    ci95: Interval
    default: float
    log_loss: float
    at_chance: int
    seeds: int


class Against(Record):
    """The project's method against another one, on the tasks that both have.

    Attributes:
        accuracy: mean difference; positive is better for the project's.
        ci95: paired bootstrap over questions and seeds; the tasks are the table's.
        p_value: two-sided, of that bootstrap.
        holm: the same, corrected for all comparisons of the table.
    """

    accuracy: float
    ci95: Interval
    p_value: float
    holm: float


class Mean(Record):
    """A method over the tasks of one kind.

    Attributes:
        tasks: that it has.
        accuracy: mean over tasks.
        ci95: as above.
        against: how the project's method differs from it; left out for that one itself.
    """

    tasks: tuple[str, ...]
    accuracy: float
    ci95: Interval
    against: Against | None = Field(default=None, exclude_if=is_none)


class Row(Record):
    """A method.

    Attributes:
        cells: task → what it reaches.
        absent: task → why it has none.
        means: ``in domain``, ``out of domain`` → over those tasks.
        spent: on choosing a rate and preparing, and on a target; means over its cells.
    """

    cells: dict[str, Cell]
    absent: dict[str, str]
    means: dict[str, Mean]
    spent: tuple[Spent, Spent] | None = Field(default=None, exclude_if=is_none)


class Table2Result(Record):
    """Everything that was measured.

    Attributes:
        reference: the project's method that the others are held against.
        chance: task → accuracy of guessing.
        n: task → test questions.
    """

    command: str
    table: str
    measured: str
    model: str
    model_sha256: str
    preset: str
    device: str
    dtype: str | None
    rules: str
    reward: int
    limit: int
    seeds: tuple[int, ...]
    tasks: tuple[str, ...]
    reference: str
    chance: dict[str, float]
    n: dict[str, int]
    rows: dict[str, Row]
