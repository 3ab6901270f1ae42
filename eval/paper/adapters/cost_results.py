"""What the table of cost holds, from the measurement to the page; ``cost.json`` is this."""

from typing import Literal

from cao.types import Record
from eval.paper.adapters.results import Setting
from eval.paper.verdicts.verdict import Verdict


class AxisCost(Record):
    """How time and operations grow along one axis.

    Attributes:
        work: what is done.
        order: the paper's.
        sizes: ascending.
        seconds: median of each size.
        exponent: of time; None where the machine was too noisy.
        spread: of that exponent over repetitions.
        operations: of each size.
        operations_exponent: fitted.
    """

    work: str
    order: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    exponent: float | None
    spread: float
    operations: tuple[float, ...]
    operations_exponent: float


class Way(Record):
    """One way to an adapter of a task.

    Attributes:
        seconds: median.
        operations: counted.
        gradients: whether it takes any of the task.
        how: it was measured.
    """

    seconds: float
    operations: float
    gradients: bool
    how: str


class CostResult(Setting):
    """Appendix C's orders beside what was measured.

    Attributes:
        machine: in words.
        repetitions: of every time.
        axes: what grows → figures.
        ways: to an adapter → figures.
        absent: what was not measured → why.
        verdicts: on the paper's claims.
    """

    table: Literal["cost"] = "cost"
    machine: str
    repetitions: int
    axes: dict[str, AxisCost]
    ways: dict[str, Way]
    absent: dict[str, str]
    verdicts: tuple[Verdict, ...]
