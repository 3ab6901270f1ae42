"""The report's charts: accuracy and log-loss on the reward questions, as marks in SVG units."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agent.record.page.questions import paired_change
from agent.record.schema import Run
from agent.record.wording import outcome, proposal
from cao.types import Comparison, Reward, Trial

LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 58.0, 14.0, 18.0, 46.0, 460.0, 260.0
"""Margins and size of a panel of the loop's chart, in SVG units."""

LABELLED = 10
"""Columns of a chart that can carry a label each."""


@dataclass(frozen=True)
class Mark:
    """One column of a chart: the start or an attempt; ``y`` is None where nothing was measured."""

    x: float
    label: str
    outcome: str
    title: str
    y: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Chart:
    """One panel: marks, the height of the start's line, and the axis."""

    title: str
    note: str
    marks: list[Mark]
    base: float
    ticks: list[tuple[float, str]]


class Point(NamedTuple):
    """What is drawn of a reward: accuracy in [0, 1], its 95 % interval where it has one, log-loss in nats."""

    score: float
    loss: float
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Column:
    """A column of both panels.

    Attributes:
        label: below it.
        outcome: what became of it, the style of its mark.
        title: shown with its value.
        point: what was measured, None where nothing was.
        items: name of its items, empty for the first column.
        best: what it was compared with where that is another one than the first column, and the name of its items.
    """

    label: str
    outcome: str
    title: str
    point: Point | None
    items: str = ""
    best: tuple[Reward, str] | None = None


Height = tuple[str, str, str, float | None, tuple[float, float] | None]
"""Label, outcome, name, value and interval of a column in one panel."""


def loop_charts(run: Run, folder: Path) -> list[Chart]:
    """Return the loop's charts: the start that was taken, then every attempt.

    Args:
        run: the run.
        folder: where its items are read from.
    """
    start = run.reward.started()
    if start is None:
        return []
    columns = [Column("start", "start", "", _point(start))]
    best, before = start, str(run.reward.start)
    for i, trial in enumerate(run.trials, 1):
        title, items = f"{proposal(trial.strategy, trial.raw)}, {outcome(trial)}", f"attempt-{i}"
        against = (best, before) if trial.dropped_after is not None else None
        columns.append(Column(str(i), outcome(trial), title, _attempt(best, trial), items, against))
        if trial.accepted and trial.reward:
            best, before = trial.reward, items
    return _pair_of_charts(columns, folder, run.reward.start, "the start")


def start_charts(run: Run, folder: Path) -> list[Chart]:
    """Return the charts of what the loop could start from; none where there was nothing to choose from.

    Args:
        run: the run.
        folder: where its items are read from.
    """
    starts = run.reward.starts()
    base = starts.pop("base", None)
    if base is None or not starts:
        return []
    columns = [Column("deployed", "start", "", _point(base))]
    for name, reward in starts.items():
        comparison = run.reward.comparisons.get(name)
        better = "better" if comparison and comparison.accepted else "not better"
        dropped = run.reward.dropped_after.get(name) is not None
        became = "taken" if name == run.reward.start else "dropped" if dropped else better
        point = _changed(base, comparison) if dropped else _point(reward)
        columns.append(Column(name, became, "", point, name))
    return _pair_of_charts(columns, folder, "base", "the deployed model")


def _point(reward: Reward) -> Point:
    return Point(reward.score, reward.loss, reward.ci95)


def _changed(reference: Reward, change: Comparison | None) -> Point | None:
    """Return a reward with a paired change added: that of a candidate which did not answer every question."""
    if change is None:
        return None
    return Point(min(1.0, max(0.0, reference.score + change.accuracy_change)), reference.loss + change.loss_change)


def _attempt(best: Reward, trial: Trial) -> Point | None:
    """Return where an attempt is drawn: one that was dropped early, at the best before it with its change added."""
    if trial.reward is None:
        return None
    dropped = trial.dropped_after is not None and trial.comparison is not None
    return _changed(best, trial.comparison) if dropped else _point(trial.reward)


def _pair_of_charts(columns: list[Column], folder: Path, first: str, reference: str) -> list[Chart]:
    """Return accuracy and log-loss of the columns, the first of which the others are compared with.

    Args:
        columns: what to draw.
        folder: where their items are read from.
        first: name of the first column's items.
        reference: what it is, for the note.
    """
    origin = columns[0].point
    assert origin is not None
    accuracy: list[Height] = []
    loss: list[Height] = []
    for column in columns:
        named, point = f"{column.label}: {column.title}".removesuffix(": "), column.point
        what = (column.label, column.outcome, named)
        accuracy.append((*what, point.score if point else None, point.ci95 if point else None))
        at, before = (column.best[0].loss, column.best[1]) if column.best else (origin.loss, first)
        change = paired_change(folder, before, column.items, "loss") if column.items and point else None
        within = (at + change[1], at + change[2]) if change else None
        loss.append((*what, point.loss if point else None, within))
    bars = f" Bars: 95 % interval of the paired change from {reference}; one that clears the line is an effect."
    bars += (
        " Of one that was dropped: from the best before it."
        if any(c.best and c.best[1] != first for c in columns)
        else ""
    )
    note = "Lower is better." + (bars if any(within for *_, within in loss) else "")
    return [
        _chart("Accuracy on the reward questions", "Bars: 95 % interval of each accuracy.", accuracy, 100.0, " %"),
        _chart("Choice log-loss on the reward questions", note, loss, 1.0, ""),
    ]


def _chart(title: str, note: str, columns: list[Height], scale: float, unit: str) -> Chart:
    seen = [scale * v for *_, value, within in columns for v in (value, *(within or ())) if v is not None]
    marked = ticks(min(seen), max(seen), least=0.005 * scale)
    if unit and 0 <= min(seen) <= max(seen) <= scale:  # the axis of a share ends where shares do
        marked = [tick for tick in marked if 0 <= tick <= scale]
    low, high = marked[0], marked[-1]

    def y(value: float | None) -> float | None:
        share = None if value is None else (scale * value - low) / (high - low)
        return None if share is None else round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    width = (WIDTH - LEFT - RIGHT) / len(columns)
    every = math.ceil(len(columns) / LABELLED)
    marks = [
        Mark(
            x=round(LEFT + width * (i + 0.5), 1),
            label=label if i % every == 0 else "",
            outcome=outcome,
            title=f"{name}: {scale * value:.4g}{unit}" if value is not None else f"{name}: not measured",
            y=y(value),
            low=y(within[0]) if within else None,
            high=y(within[1]) if within else None,
        )
        for i, (label, outcome, name, value, within) in enumerate(columns)
    ]
    digits = max(0, -math.floor(math.log10(marked[1] - marked[0])))
    axis = [(y(tick / scale) or 0.0, f"{tick:.{digits}f}{unit}") for tick in marked]
    return Chart(title, note, marks, marks[0].y or 0.0, axis)


def ticks(low: float, high: float, least: float) -> list[float]:
    """Return about five round numbers that enclose ``low`` and ``high`` with at least ``least`` air around them."""
    air = max(0.08 * (high - low), least)
    low, high = low - air, high + air
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [i * step for i in range(math.floor(low / step), math.ceil(high / step) + 1)]
