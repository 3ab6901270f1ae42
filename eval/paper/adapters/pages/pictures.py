"""The pictures of the tables of adapters: two panels in a row, so that their text can be read on a page."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter, ScalarFormatter

from eval.pages.style import GREY, OURS, STYLE, save_picture
from eval.paper.adapters.cost_results import AxisCost
from eval.paper.adapters.results import Matrix

COLUMNS = 2
PALETTE = ("#1f5fa8", "#c2410c", "#15803d", "#b91c8c", "#6d28d9", "#0e7490", "#92400e")
"""Of lines, by kind of module; all of them are dark enough for a white ground."""

Grids = Mapping[str, tuple[Sequence[str], Matrix]]
"""Title → the tasks, and their (T, T) cosines."""


def matrices(grids: Grids, path: Path) -> None:
    """Draw matrices of cosines between tasks, each with its own tasks.

    Args:
        grids: what is drawn.
        path: the SVG file.
    """
    with mpl.rc_context(STYLE):
        columns = min(COLUMNS, len(grids))
        figure = Figure(figsize=(5.0 * columns, 4.6 * math.ceil(len(grids) / columns)), layout="constrained")
        for place, (title, (names, grid)) in enumerate(grids.items(), 1):
            axes = figure.add_subplot(math.ceil(len(grids) / columns), columns, place)
            image = axes.imshow(grid, vmin=-1, vmax=1, cmap="RdBu_r")
            axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
            axes.set_yticks(range(len(names)), names)
            axes.set_title(title, fontsize=10)
            _write(axes, grid)
        figure.colorbar(image, ax=figure.axes, shrink=0.6, label="cosine", pad=0.02)
        save_picture(figure, path)


def _write(axes: Axes, grid: Matrix) -> None:
    """Write every value into its place, of a size that fits."""
    size = 7 if len(grid) > 8 else 9
    for y, row in enumerate(grid):
        for x, value in enumerate(row):
            shade = "white" if abs(value) > 0.6 else "black"
            text = f"{round(value, 2) + 0.0:.2f}".replace("0.", ".", 1)  # no minus before a zero
            axes.text(x, y, text, ha="center", va="center", fontsize=size, color=shade)


def heat(mean: Matrix, departures: Mapping[str, Matrix], title: str, path: Path) -> None:
    """Draw ΔW of one module: its mean over tasks, and how tasks depart from it, each with its own scale.

    Args:
        mean: pooled.
        departures: task → pooled.
        title: of the mean.
        path: the SVG file.
    """
    panels = {title: mean} | {f"{task}, less the mean": each for task, each in departures.items()}
    with mpl.rc_context(STYLE):
        rows = math.ceil(len(panels) / COLUMNS)
        figure = Figure(figsize=(4.8 * COLUMNS, 4.1 * rows), layout="constrained")
        for place, (name, grid) in enumerate(panels.items(), 1):
            axes = figure.add_subplot(rows, COLUMNS, place)
            values = np.array(grid)
            limit = float(np.abs(values).max()) or 1.0
            image = axes.imshow(values, vmin=-limit, vmax=limit, cmap="RdBu_r", interpolation="nearest", aspect="auto")
            axes.set_title(name, fontsize=10)
            axes.set_xlabel("input, in blocks")
            axes.set_ylabel("output, in blocks")
            powers = ScalarFormatter()
            powers.set_powerlimits((-2, 2))
            figure.colorbar(image, ax=axes, shrink=0.8, format=powers)
        save_picture(figure, path)


def signatures(mean: Mapping[str, Sequence[float]], varying: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw signatures: the norm of ΔW over layers for each kind of module, and how much it varies between tasks.

    Args:
        mean: module → norms, layer by layer.
        varying: module → standard deviation over tasks as a share of the mean.
        path: the SVG file.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.0, 4.0), layout="constrained")
        left, right = figure.subplots(1, 2)
        for number, (name, values) in enumerate(mean.items()):
            left.plot(
                range(len(values)),
                values,
                label=name,
                linewidth=1.4,
                color=PALETTE[number % len(PALETTE)],
                linestyle=("-", "--")[number % 2],
            )
        left.set_ylim(bottom=0)
        left.set_title("Frobenius norm of ΔW, mean over tasks", fontsize=10)
        image = right.imshow(100 * np.array(list(varying.values())), cmap="Blues", vmin=0, aspect="auto")
        right.set_yticks(range(len(varying)), list(varying))
        right.set_title("standard deviation over tasks, % of the mean", fontsize=10)
        figure.colorbar(image, ax=right, shrink=0.8)
        for axes in (left, right):
            axes.set_xlabel("layer")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False)
        save_picture(figure, path)


def growth(axes: Mapping[str, AxisCost], path: Path) -> None:
    """Draw time and counted operations against size, both logarithmic, with the paper's order.

    Args:
        axes: what grows → figures.
        path: the SVG file.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.2, 3.6), layout="constrained")
        for place, (name, each) in enumerate(axes.items(), 1):
            panel, sizes = figure.add_subplot(1, len(axes), place), np.array(each.sizes, dtype=float)
            panel.loglog(
                sizes, sizes / sizes[0], "--", color=GREY, linewidth=1.2, label="the paper's order, exponent 1"
            )
            drawn = {"counted operations": (each.operations, OURS, "o-"), "time": (each.seconds, PALETTE[1], "s:")}
            for what, (values, colour, marker) in drawn.items():
                panel.loglog(sizes, np.array(values) / values[0], marker, color=colour, markersize=4, label=what)
            panel.set_xticks(sizes, [EngFormatter(sep="").format_data(float(f"{size:.3g}")) for size in sizes])
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.yaxis.set_minor_formatter(NullFormatter())
            panel.set_xlabel(name)
            panel.set_title(each.work, fontsize=8)
            if place == 1:
                panel.set_ylabel("times the smallest size's")
        figure.legend(*figure.axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        save_picture(figure, path)
