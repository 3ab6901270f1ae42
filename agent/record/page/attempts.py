"""The report's intervals: those of the accuracies on test as bars, and those of what each attempt changed."""

from dataclasses import dataclass
from pathlib import Path

from agent.record.gains import sides
from agent.record.measurements import TestPart
from agent.record.page.charts import ticks
from agent.record.page.questions import paired_change
from agent.record.schema import Run
from agent.record.wording import interval, number, percent


@dataclass(frozen=True)
class Bar:
    """One model's accuracy with its 95 % interval, in percent of the axis, and both in words."""

    name: str
    at: float
    low: float
    high: float
    text: str
    note: str


@dataclass(frozen=True)
class Bars:
    """The models on test, the axis's marks, and where guessing stands; places in percent of the axis."""

    bars: list[Bar]
    marks: list[tuple[float, str]]
    chance: float | None


def test_bars(test: TestPart) -> Bars:
    """Return the accuracies on test, on an axis that holds every interval and chance."""
    named = sides(test)
    ends = [end for side in named.values() for end in (*side.ci95, side.accuracy)]
    ends += [test.chance] if test.chance is not None else []
    marked = [tick for tick in ticks(100 * min(ends), 100 * max(ends), least=0.5) if 0 <= tick <= 100]
    low, high = marked[0], marked[-1]
    low, high = min(low, 100 * min(ends)), max(high, 100 * max(ends))

    def place(share: float) -> float:
        return round(100 * (100 * share - low) / (high - low), 2)

    bars = [
        Bar(
            name + (", at chance" if side.at_chance else ""),
            place(side.accuracy),
            place(side.ci95[0]),
            place(side.ci95[1]),
            percent(side.accuracy),
            f"{interval(side.ci95)}, log-loss {number(side.loss)}",
        )
        for name, side in named.items()
    ]
    axis = [(place(tick / 100), f"{tick:.4g} %") for tick in marked]
    return Bars(bars, axis, place(test.chance) if test.chance is not None else None)


def loss_intervals(run: Run, folder: Path) -> list[tuple[float, float] | None]:
    """Return for each attempt the 95 % interval of the paired change of its log-loss from the best before it, nats.

    Args:
        run: the run.
        folder: where its items are read from; None stands where they are not.
    """
    best, found = str(run.reward.start), []
    for attempt, trial in enumerate(run.trials, 1):
        name = f"attempt-{attempt}"
        change = paired_change(folder, best, name, "loss") if trial.comparison else None
        found.append(change[1:] if change else None)
        best = name if trial.accepted else best
    return found
