"""The pictures of a page, as SVG files that are the same for the same figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from cao.strategy import strategy_text

STYLE = {
    "svg.hashsalt": "cao",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}
SERIES = {
    "generated": ("o", "#1f5fa8"),
    "aligned": ("D", "#c2410c"),
    "mean": ("s", "#888888"),
    "nearest": ("^", "#888888"),
    "union": ("v", "#888888"),
    "wrong": ("x", "#b91c8c"),
    "shuffled": ("+", "#b91c8c"),
    "checkpoint": ("*", "#15803d"),
}
"""Kind of adapter → marker and colour: what is judged stands out, controls are grey, false prompts purple."""


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def changes(tasks: dict[str, Any], path: Path) -> None:
    """Draw each kind's change of the gold likelihood against the base model, a row a task; left is better.

    Args:
        tasks: task → what ``judge`` said.
        path: the SVG file.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.5 * len(tasks) + 1.4))
        axes = figure.add_subplot()
        shifts = {kind: 0.3 - 0.6 * i / (len(SERIES) - 1) for i, kind in enumerate(SERIES)}
        for kind, (marker, colour) in SERIES.items():
            rows = [(y, said["rows"][kind]["change"]) for y, said in enumerate(tasks.values()) if kind in said["rows"]]
            if not rows:
                continue
            places = [y - shifts[kind] for y, _ in rows]
            values = [change["nll"] for _, change in rows]
            lengths = [
                [max(0.0, change["nll"] - change["nll_ci95"][0]) for _, change in rows],
                [max(0.0, change["nll_ci95"][1] - change["nll"]) for _, change in rows],
            ]
            axes.errorbar(
                values, places, xerr=lengths, fmt=marker, color=colour, label=kind, markersize=5, elinewidth=0.8
            )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(tasks)), list(tasks))
        axes.invert_yaxis()
        axes.grid(axis="y", alpha=0.2)
        axes.set_xlabel("change of the gold answer's NLL per character against the base model, nats (95 % intervals)")
        figure.legend(loc="outside upper center", ncols=len(SERIES), frameon=False, handletextpad=0.1, columnspacing=1)
        _save(figure, path)


def matrices(names: Sequence[str], grids: dict[str, list[list[float]]], path: Path) -> None:
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
        _save(figure, path)


def first_attempts(groups: dict[str, dict[str, Any]], trained: Sequence[str], path: Path) -> None:
    """Draw how often each policy's first attempt improves the model, a panel for each group of tasks.

    Args:
        groups: title → policy → what ``successes.judge`` said.
        trained: the policies that stand out.
        path: the SVG file.
    """
    with mpl.rc_context(STYLE):
        names = list(next(iter(groups.values())))
        figure = Figure(figsize=(5.2 * len(groups), 0.3 * len(names) + 1.2), layout="constrained")
        for place, (title, rows) in enumerate(groups.items(), 1):
            axes = figure.add_subplot(1, len(groups), place)
            said = [
                (y, 100 * rows[name]["first"]["mean"], rows[name]["first"]["ci95"])
                for y, name in enumerate(names)
                if name in rows
            ]
            ys, means = [y for y, _, _ in said], [mean for _, mean, _ in said]
            lengths = [
                [max(0.0, m - 100 * ci[0]) for _, m, ci in said],
                [max(0.0, 100 * ci[1] - m) for _, m, ci in said],
            ]
            colours = [
                "#c2410c" if names[y] in trained else "#15803d" if names[y] == "oracle" else "#888888" for y in ys
            ]
            axes.barh(ys, means, xerr=lengths, color=colours, height=0.6, error_kw={"elinewidth": 0.8})
            axes.set_yticks(range(len(names)), names if place == 1 else [""] * len(names))
            axes.invert_yaxis()
            axes.set_xlim(0, 100)
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("first attempts that improve the model, % (95 % intervals)")
        _save(figure, path)


def landscape(tasks: Sequence[str], points: Sequence[dict[str, Any]], shares: list[list[float]], path: Path) -> None:
    """Draw in how many seeds each point of the strategy grid improves the model, a row a task.

    Args:
        tasks: T names.
        points: P strategies.
        shares: (T, P), 0 to 1.
        path: the SVG file.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.26 * len(points) + 2, 0.26 * len(tasks) + 3.4), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(shares, vmin=0, vmax=1, cmap="Greens", aspect="auto")
        axes.set_yticks(range(len(tasks)), tasks)
        axes.set_xticks(range(len(points)), [_short(point, points) for point in points], rotation=90, fontsize=6.5)
        bar = figure.colorbar(image, ax=axes, shrink=0.8)
        bar.set_label("share of seeds improved", fontsize=7)
        _save(figure, path)


def _short(point: dict[str, Any], points: Sequence[dict[str, Any]]) -> str:
    """Return a strategy as text with the settings alone that differ among the points of its family."""
    mine = [other for other in points if other["family"] == point["family"]]
    told = {key: value for key, value in point.items() if key == "family" or any(one[key] != value for one in mine)}
    return strategy_text(told)
