"""The pictures of the table of generated adapters."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from eval.generation.results import Change, TaskResult
from eval.pages.style import BEST, FALSE, GREY, JUDGED, OURS, STYLE, save_picture

SERIES = {
    "generated": ("o", OURS),
    "aligned": ("D", JUDGED),
    "fused": ("<", OURS),
    "no prompts": ("o", GREY),
    "union": ("v", GREY),
    "nearest": ("^", GREY),
    "generated+nearest": ("s", GREY),
    "wrong": ("x", FALSE),
    "shuffled": ("+", FALSE),
    "paper": ("P", GREY),
    "checkpoint": ("*", BEST),
    "generated+checkpoint": ("d", BEST),
    "own": ("p", BEST),
}
"""Kind of adapter → marker and colour: what is judged stands out, controls are grey, false prompts purple."""


def changes(tasks: Mapping[str, TaskResult], path: Path) -> None:
    """Draw each kind's change of the gold likelihood against the base model, a row a task; left is better.

    Args:
        tasks: task → what was measured there.
        path: the SVG file.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.85 * len(tasks) + 1.6), layout="constrained")
        axes = figure.add_subplot()
        shifts = {kind: 0.36 - 0.72 * i / (len(SERIES) - 1) for i, kind in enumerate(SERIES)}
        for kind, (marker, colour) in SERIES.items():
            rows = _changes(tasks, kind)
            if not rows:
                continue
            places = [y - shifts[kind] for y in rows]
            values = [change.nll for change in rows.values()]
            lengths = [
                [max(0.0, change.nll - change.nll_ci95[0]) for change in rows.values()],
                [max(0.0, change.nll_ci95[1] - change.nll) for change in rows.values()],
            ]
            axes.errorbar(
                values, places, xerr=lengths, fmt=marker, color=colour, label=kind, markersize=5, elinewidth=0.8
            )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(tasks)), list(tasks))
        axes.set_ylim(len(tasks) - 0.5, -0.5)
        for between in range(1, len(tasks)):
            axes.axhline(between - 0.5, color=GREY, linewidth=0.5, alpha=0.4)
        axes.set_xlabel("change of the gold answer's NLL per character against the base model, nats (95 % intervals)")
        figure.legend(loc="outside upper center", ncols=5, frameon=False, handletextpad=0.1, columnspacing=1)
        save_picture(figure, path)


def _changes(tasks: Mapping[str, TaskResult], kind: str) -> dict[int, Change]:
    """Return row of the picture → the change of a kind there; not every task has every kind."""
    rows = {y: task.rows[kind].change for y, task in enumerate(tasks.values()) if kind in task.rows}
    return {y: change for y, change in rows.items() if change is not None}


def matrices(names: Sequence[str], grids: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """Draw matrices of cosines side by side.

    Args:
        names: T tasks.
        grids: title → (T, T) cosines.
        path: the SVG file.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2 * len(grids), 4.6), layout="constrained")
        for place, (title, grid) in enumerate(grids.items(), 1):
            axes = figure.add_subplot(1, len(grids), place)
            image = axes.imshow(grid, vmin=-1, vmax=1, cmap="RdBu_r")
            axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
            axes.set_yticks(range(len(names)), names if place == 1 else [""] * len(names))
            axes.set_title(title, fontsize=9)
            for y, row in enumerate(grid):
                for x, value in enumerate(row):
                    shade = "white" if abs(value) > 0.6 else "black"
                    axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=5.5, color=shade)
        figure.colorbar(image, ax=figure.axes, shrink=0.7, label="cosine")
        save_picture(figure, path)
