"""The picture of a stream: accuracy over time, arm by arm, for a light and for a dark page."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.continual.results import ARMS, Arm, ContinualResult, Stream
from eval.pages.style import BEST, DARK, GREY, JUDGED, STYLE, save_picture

PICTURES = {"continual.svg": STYLE, "continual-dark.svg": DARK}
LOOKS: dict[Arm, tuple[str, str]] = {"never": (GREY, "-"), "alarms": (JUDGED, "-"), "last window": (BEST, "--")}
SMOOTH = 32
"""Prompts that a point of a curve is the mean of."""


def draw(result: ContinualResult, folder: Path) -> None:
    """Draw the accuracy over time of each stream, with alarms and what was deployed, as two SVG files."""
    for name, style in PICTURES.items():
        with mpl.rc_context(style):
            figure = Figure(figsize=(8, 2.9 * len(result.streams) + 0.3), layout="constrained")
            for place, stream in enumerate(result.streams, 1):
                _panel(figure.add_subplot(len(result.streams), 1, place), stream, result.chance)
            save_picture(figure, folder / name)


def _panel(axes: Axes, stream: Stream, chance: dict[str, float]) -> None:
    for arm in ARMS:
        colour, line = LOOKS[arm]
        right = np.array(stream.arms[arm].right, dtype=float)
        width = min(SMOOTH, len(right))
        means = np.convolve(right, np.ones(width) / width, mode="valid")
        axes.plot(np.arange(width, len(right) + 1), 100 * means, line, color=colour, label=arm, linewidth=1.4)
    for segment in stream.segments:
        end = segment.first + segment.prompts
        axes.axvline(end, color=GREY, linewidth=0.6)
        axes.hlines(100 * chance[segment.task], segment.first, end, color=GREY, linestyles=":", linewidth=0.9)
        axes.text((segment.first + end) / 2, 103, segment.task, ha="center", fontsize=8)
    for number, alarm in enumerate(stream.alarms):
        axes.axvline(alarm, color=JUDGED, linewidth=0.8, linestyle=":", label=None if number else "alarm")
    adopted = [step.prompt for step in stream.arms["alarms"].steps if step.model != "base"]
    axes.plot(adopted, [2] * len(adopted), "^", color=JUDGED, markersize=6, label="adapter deployed")
    axes.set_ylim(0, 101)
    axes.set_xlim(0, sum(segment.prompts for segment in stream.segments))
    axes.set_xlabel(f"prompt of the stream (seed {stream.seed}); dotted grey: guessing")
    axes.set_ylabel(f"right of the last {SMOOTH}, %")
    axes.legend(fontsize=7, loc="lower left", ncols=5, frameon=False)
