"""The report of a run: one self-contained HTML file, without scripts and without the network.

The template autoescapes, hidden characters become visible ones on their way in, and the page's own policy forbids
scripts and loading anything: the texts of a policy are hostile.
"""

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from agent.record import wording
from agent.record.commands import next_step, reproduce_command
from agent.record.events import evaluations_text
from agent.record.questions import SHOWN, read_answers
from agent.record.runs import paired_change, read_run, read_trace, visits
from agent.record.schema import RUNNING, UNFINISHED, Attempt, Measured, RunRecord, changed
from cao.files import write_atomic

LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 58.0, 14.0, 18.0, 46.0, 460.0, 260.0
"""Margins and size of a panel of the loop's chart, in SVG units."""

LABELLED = 10
"""Columns of a chart that can carry a label each."""

NODES = {
    "describe": (80, 44),
    "detect": (230, 44),
    "generate": (380, 44),
    "align": (530, 44),
    "choose": (530, 144),
    "decide": (230, 144),
    "apply": (380, 234),
    "evaluate": (530, 234),
    "conclude": (720, 144),
}
"""Where the graph's nodes stand, in SVG units."""

EDGES = {
    ("describe", "detect"): "M134 44H176",
    ("detect", "generate"): "M284 44H326",
    ("generate", "align"): "M434 44H476",
    ("align", "choose"): "M530 64V124",
    ("choose", "decide"): "M476 144H284",
    ("decide", "apply"): "M262 164Q296 222 326 230",
    ("apply", "evaluate"): "M434 234H476",
    ("evaluate", "decide"): "M494 214Q420 172 286 156",
    ("evaluate", "conclude"): "M584 234Q690 224 714 164",
    ("decide", "decide"): "M176 134C132 118 132 170 174 155",
    ("apply", "decide"): "M326 242Q240 236 232 164",
    ("apply", "conclude"): "M404 254C440 284 690 276 720 164",
    ("detect", "conclude"): "M258 24C340 -30 690 -30 724 124",
    ("decide", "conclude"): "M216 164C216 330 706 322 728 164",
}
"""The graph's edges as SVG paths."""


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


Column = tuple[str, str, str, Measured | None, str]
"""Label, outcome, title, what was measured, and the name of its items (empty for the first column)."""


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` from a run's files, in one step, and return its path.

    Args:
        run_folder: the run's folder; the run may be unfinished.

    Raises:
        InputError: a file of the run is damaged.
    """
    path = run_folder / "report.html"
    write_atomic(path, render(read_run(run_folder), read_trace(run_folder), run_folder))
    return path


def render(run: RunRecord, events: list[dict[str, Any]], folder: Path) -> str:
    """Return the report as HTML.

    Args:
        run: the run.
        events: its trace.
        folder: where its items are read from.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    improved = run.status == "improved"
    change = paired_change(folder, "test-baseline", "test-adapted", "correct") if improved else None
    step, command = next_step(run, folder.parent)
    headline = wording.headline(run)
    tone = "open" if run.status in (UNFINISHED, RUNNING) else "good" if headline == "Improved" else "doubtful"
    return environment.get_template("report_template.html").render(
        w=wording,
        run=run,
        folder=folder,
        headline=headline,
        policy=wording.policy_text(run),
        tone=tone,
        verdict=wording.verdict(run, change).replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0"),
        step=step,
        command=command,
        start=wording.start_sentence(run),
        start_charts=_start_charts(run, folder),
        charts=_charts(run, folder),
        evaluations=evaluations_text(run),
        answers=read_answers(folder, improved=improved) if run.test else None,
        most=SHOWN,
        compared=wording.compared_sentence(run),
        drift=_drift_bars(run),
        graph=_graph(visits(events)),
        times=_times(run),
        settings=wording.flatten(run.config),
        reproduce=reproduce_command(run),
        compute=wording.compute_text(run),
    )


def _shown(value: Any) -> Any:
    return value if isinstance(value, Markup) else wording.visible(value)


def _charts(run: RunRecord, folder: Path) -> list[Chart]:
    """Return the loop's charts: the start that was taken, then every attempt."""
    start = run.reward.started()
    if start is None:
        return []
    columns: list[Column] = [("start", "start", "", start, "")]
    columns += [
        (str(i), wording.outcome(t), _named(t), _on_all(start, t), f"attempt-{i}") for i, t in enumerate(run.trials, 1)
    ]
    return _pair_of_charts(columns, folder, run.reward.start or "base", "the start")


def _start_charts(run: RunRecord, folder: Path) -> list[Chart]:
    """Return the charts of what the loop could start from; none where there was nothing to choose from."""
    starts = run.reward.starts()
    base = starts.pop("base", None)
    if base is None or not starts:
        return []
    columns: list[Column] = [("deployed", "start", "", base, "")]
    for name in starts:
        found = run.reward.comparisons.get(name)
        better = "better" if found and found.accepted else "not better"
        dropped = run.reward.dropped_after.get(name) is not None
        outcome = "taken" if name == run.reward.start else "dropped" if dropped else better
        columns.append((name, outcome, "", run.reward.on_all(name), name))
    return _pair_of_charts(columns, folder, "base", "the deployed model")


def _pair_of_charts(columns: list[Column], folder: Path, first: str, reference: str) -> list[Chart]:
    """Return accuracy and log-loss of the columns, the first of which the others are compared with.

    Args:
        columns: what to draw.
        folder: where their items are read from.
        first: name of the first column's items.
        reference: what it is, for the note.
    """
    origin = columns[0][3]
    assert origin is not None
    accuracy, loss = [], []
    for label, outcome, title, reward, items in columns:
        name = f"{label}: {title}".removesuffix(": ")
        accuracy.append((label, outcome, name, reward.score if reward else None, reward.ci95 if reward else None))
        change = paired_change(folder, first, items, "loss") if items and reward else None
        within = (origin.loss + change[1], origin.loss + change[2]) if change and origin.loss is not None else None
        loss.append((label, outcome, name, reward.loss if reward else None, within))
    charts = [
        _chart("Accuracy on the reward questions", "Bars: 95 % interval of each accuracy.", accuracy, 100.0, " %")
    ]
    if origin.loss is not None:
        bars = f" Bars: 95 % interval of the paired change from {reference}; one that clears the line is an effect."
        note = "Lower is better." + (bars if any(within for *_, within in loss) else "")
        charts.append(_chart("Choice log-loss on the reward questions", note, loss, 1.0, ""))
    return charts


def _on_all(start: Measured, trial: Attempt) -> Measured | None:
    """Return an attempt's reward; of one that was dropped early, the start's reward with its paired change added."""
    if trial.dropped_after is None or trial.reward is None or trial.comparison is None:
        return trial.reward
    return changed(start, trial.comparison)


def _named(trial: Any) -> str:
    return f"{wording.proposal(trial.strategy, trial.raw)}, {wording.outcome(trial)}"


def _chart(title: str, note: str, columns: list[Any], scale: float, unit: str) -> Chart:
    seen = [scale * v for *_, value, within in columns for v in (value, *(within or ())) if v is not None]
    ticks = _ticks(min(seen), max(seen), least=0.005 * scale)
    if unit and 0 <= min(seen) <= max(seen) <= scale:  # the axis of a share ends where shares do
        ticks = [tick for tick in ticks if 0 <= tick <= scale]
    low, high = ticks[0], ticks[-1]

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
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0])))
    axis = [(y(tick / scale) or 0.0, f"{tick:.{digits}f}{unit}") for tick in ticks]
    return Chart(title, note, marks, marks[0].y or 0.0, axis)


def _ticks(low: float, high: float, least: float) -> list[float]:
    """Return about five round numbers that enclose ``low`` and ``high`` with at least ``least`` air around them."""
    air = max(0.08 * (high - low), least)
    low, high = low - air, high + air
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [i * step for i in range(math.floor(low / step), math.ceil(high / step) + 1)]


def _drift_bars(run: RunRecord) -> list[dict[str, Any]]:
    if run.drift is None:
        return []
    nearest = run.drift.nearest_task
    return [
        {
            "name": name,
            "value": compared.effect,
            "width": round(100 * compared.effect, 1),
            "p_value": compared.p_value,
            "nearest": name == nearest,
        }
        for name, compared in sorted(run.drift.known.items(), key=lambda entry: (entry[1].effect, entry[0] != nearest))
    ]


def _graph(path: list[str]) -> dict[str, Any]:
    seen = Counter(path)
    taken = Counter(pairwise(path))
    return {
        "nodes": [{"name": name, "x": x, "y": y, "visits": seen[name]} for name, (x, y) in NODES.items()],
        "edges": [{"d": d, "count": taken[edge]} for edge, d in EDGES.items()],
        "path": path,
        "started": path[:1] == ["describe"],
        "ended": "conclude" in seen,
    }


def _times(run: RunRecord) -> list[dict[str, Any]]:
    total = sum(run.timing_s.values())
    if total <= 0:
        return []
    longest = sorted(run.timing_s.items(), key=lambda entry: -entry[1])
    return [{"name": name, "seconds": s, "share": s / total, "hue": i % 8} for i, (name, s) in enumerate(longest)]
