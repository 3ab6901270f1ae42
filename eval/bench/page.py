"""A benchmark's section of docs/results/benchmarks.md between two markers: its command, the machine, its figures."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from cao.errors import InputError
from cao.files import write_atomic
from eval.bench.growth.measure import GrowthResult
from eval.bench.measure import Line
from eval.pages.style import GREY, OURS, STYLE, save_picture

PAGE = Path("docs/results/benchmarks.md")
ONE_KIND = ("parity", "growth", "engine")
"""Benchmarks with one section. The others have one for each kind of machine, named by its faster dtype; ``size`` has
one for each model."""

PICTURE = "benchmarks-growth.svg"


def section(command: str, setting: str, figures: Sequence[Line], picture: str | None = None) -> str:
    """Return what stands between the markers.

    Args:
        command: what was typed.
        setting: the machine and the number of repetitions.
        figures: label and value of each figure.
        picture: file beside the page.
    """
    lines = ["```", command, "```", "", setting, "", "| | |", "|---|---|"]
    lines += [f"| {label} | {value} |" for label, value in figures]
    return "\n".join([*lines, *(["", f"![{picture}]({picture})"] if picture else [])])


def replaced(page: str, name: str, text: str) -> str:
    """Return the page with one section anew.

    Args:
        page: the whole page.
        name: the benchmark.
        text: what comes between its markers.

    Raises:
        InputError: the page has not both markers, in order.
    """
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    head, opened, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    if not opened or not closed:
        raise InputError(f"{PAGE} has no place for {name}: it takes the lines {begin} and {end}")
    return f"{head}{begin}\n{text}\n{end}{tail}"


def write_section(page: Path, name: str, text: str) -> None:
    """Put a section into the page, in one step.

    Raises:
        InputError: there is no such page, or it has no place for the section.
    """
    try:
        old = page.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{page}: cannot be read ({error.strerror}); run from the repository's root") from None
    write_atomic(page, replaced(old, name, text))


def _short(size: float) -> str:
    """Return a size as a tick's label: 1,302,528 is 1.3M."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:.3g}{letter}"
    return f"{size:g}"


def draw_growth(result: GrowthResult, path: Path) -> None:
    """Draw time against size along every axis, both logarithmic, with the expected slope.

    Args:
        result: of the benchmark ``growth``.
        path: the SVG file.
    """
    axes = result.axes
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(3.4 * min(3, len(axes)), 2.8 * -(-len(axes) // 3)), layout="constrained")
        for place, (name, each) in enumerate(axes.items(), 1):
            panel = drawing.add_subplot(-(-len(axes) // 3), min(3, len(axes)), place)
            sizes, seconds = np.array(each.sizes, dtype=float), np.array(each.seconds)
            slope = "too noisy" if each.exponent is None else f"{each.exponent:.2f}"
            expected = np.exp(np.log(seconds).mean()) * (sizes / np.exp(np.log(sizes).mean())) ** each.expected
            panel.loglog(sizes, seconds, "o-", color=OURS, markersize=4, label=f"measured, exponent {slope}")
            panel.loglog(sizes, expected, "--", color=GREY, linewidth=0.9, label=f"exponent {each.expected:.0f}")
            panel.set_xticks(sizes, [_short(size) for size in sizes])
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.yaxis.set_minor_formatter(NullFormatter())
            panel.set_xlabel(name)
            panel.set_ylabel("seconds")
            panel.set_title(each.work, fontsize=8)
            panel.legend(frameon=False, fontsize=7)
        save_picture(drawing, path)
