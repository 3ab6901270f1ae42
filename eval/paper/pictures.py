"""Figure 6, a radar of the rows over tasks, and Figure 7, what each stage adds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

from eval.pages.style import BEST, GREY, JUDGED, OURS, STYLE, save_picture
from eval.paper.results import KINDS, TableResult
from eval.paper.rows import ALL, PAPERS_ALL, STAGE_1, STAGES_1_2, title

LOOKS: Mapping[str, tuple[str, str, float]] = {
    "base": (GREY, "--", 1.4),
    STAGE_1: (OURS, "-.", 1.4),
    STAGES_1_2: (BEST, ":", 1.6),
    ALL: (JUDGED, "-", 2.0),
    PAPERS_ALL: (JUDGED, ":", 1.4),
    "maml": (OURS, ":", 1.2),
    "union_train": (BEST, "--", 1.2),
}
"""Row → colour, line and width, of those that are drawn wherever they were measured."""

OTHERS = (("#0f766e", "s"), ("#7c3aed", "^"))
"""Colour and mark of the other baselines that are drawn, the best ones: with all of them nobody could tell any."""

SIDEWAYS = 0.1
"""Cosine of a spoke's angle from which on its name stands beside it, and not above or below."""


def radar(result: TableResult, path: Path) -> None:
    """Draw Figure 6: the rows' accuracy on every task, a spoke a task; of the other baselines the best ones.

    Args:
        result: a table with three tasks or more.
        path: the SVG file.
    """
    tasks = [task for task in result.tasks if any(task in row.cells for row in result.rows.values())]
    angles = np.linspace(0, 2 * np.pi, len(tasks), endpoint=False)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 6.4), layout="constrained")
        axes = figure.add_subplot(projection="polar")
        for name, (colour, line, width, mark) in looks(result).items():
            cells = result.rows[name].cells
            values = [100 * cells[task].accuracy if task in cells else np.nan for task in tasks]
            closed = ([*angles, angles[0]], [*values, values[0]])
            axes.plot(
                *closed, color=colour, linestyle=line, linewidth=width, label=title(name), marker=mark, markersize=4
            )
        axes.plot(
            [*angles, angles[0]],
            [100 * result.chance[task] for task in (*tasks, tasks[0])],
            color=GREY,
            linewidth=0.6,
            label="guessing",
        )
        axes.set_xticks(angles, tasks)
        axes.tick_params(axis="x", pad=8)
        for label, angle in zip(axes.get_xticklabels(), angles, strict=True):  # each away from the circle
            side = math.cos(angle)
            label.set_horizontalalignment("center" if abs(side) < SIDEWAYS else "left" if side > 0 else "right")
        highest = max(100 * row.cells[task].accuracy for row in result.rows.values() for task in row.cells)
        axes.set_ylim(0, min(100.0, 10 * math.ceil(highest / 10) + 5))
        rings = range(20, math.ceil(highest), 20)
        axes.set_yticks(rings, [f"{ring} %" for ring in rings], fontsize=7)
        assert isinstance(axes, PolarAxes)
        axes.set_rlabel_position(-180 / len(tasks))  # between two spokes, where no mark is
        axes.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=4, frameon=False)
        save_picture(figure, path)


def looks(result: TableResult) -> dict[str, tuple[str, str, float, str]]:
    """Return the rows that are drawn, in the table's order → colour, line, width and mark."""
    ranks = {  # a mean over fewer tasks compares with no other: it comes last
        name: (len(row.cells), statistics.fmean(cell.accuracy for cell in row.cells.values()))
        for name, row in result.rows.items()
        if row.cells and name not in LOOKS
    }
    best = dict(zip(sorted(ranks, key=lambda name: ranks[name], reverse=True), OTHERS, strict=False))
    drawn = {name: (*LOOKS[name], "o") for name, row in result.rows.items() if name in LOOKS and row.cells}
    drawn |= {name: (colour, "-", 0.8, mark) for name, (colour, mark) in best.items()}
    return {name: drawn[name] for name in result.rows if name in drawn}


def stages(result: TableResult, path: Path) -> None:
    """Draw Figure 7: the mean accuracy behind each stage, with intervals, for tasks in and out of domain.

    Args:
        result: Table 6.
        path: the SVG file.
    """
    rows = {name: row for name, row in result.rows.items() if name != PAPERS_ALL}  # no stage of its own
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        axes = figure.add_subplot()
        sides = zip((-0.12, 0.12), KINDS, (OURS, JUDGED), (1, 0), strict=True)
        for shift, kind, colour, end in sides:
            means = {place: row.means[kind] for place, row in enumerate(rows.values()) if kind in row.means}
            if not means:
                continue
            values = [100 * mean.accuracy for mean in means.values()]
            spread = [[100 * abs(mean.accuracy - mean.ci95[i]) for mean in means.values()] for i in (0, 1)]
            places = [place + shift for place in means]
            axes.errorbar(places, values, yerr=spread, fmt="o-", color=colour, label=kind, capsize=3, linewidth=1)
            for place, mean in zip(places, means.values(), strict=True):
                note = f"{100 * mean.accuracy:.1f}\n{len(mean.tasks)} tasks"
                at, aside, side = (place, 100 * mean.ci95[end]), (0, 3 if end else -3), "bottom" if end else "top"
                axes.annotate(note, at, aside, textcoords="offset points", fontsize=7, ha="center", va=side)
        axes.margins(y=0.15)
        axes.set_xticks(range(len(rows)), [title(row) for row in rows])
        axes.set_xlim(-0.5, len(rows) - 0.3)
        axes.set_ylabel("accuracy, % (95 %)")
        axes.grid(axis="y", alpha=0.3)
        axes.legend(frameon=False)
        save_picture(figure, path)


def draw(result: TableResult, folder: Path, name: str) -> Sequence[str]:
    """Draw a table's pictures and return their files' names.

    Args:
        result: what was measured.
        folder: where.
        name: of the table's files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = list[str]()
    if len(result.n) >= 3 and result.table in ("2", "6"):
        made.append(f"{name}-radar.svg")
        radar(result, folder / made[-1])
    if result.table == "6":
        made.append(f"{name}-stages.svg")
        stages(result, folder / made[-1])
    return made
