"""The pictures of the table of policies."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from cao.strategies import Strategy
from cao.strategy import strategy_text
from eval.pages.style import BEST, GREY, JUDGED, STYLE, save_picture
from eval.policies.results import Verdicts


def first_attempts(groups: Mapping[str, Verdicts], trained: Sequence[str], path: Path) -> None:
    """Draw how often each policy's first attempt improves the model, a panel for each group of tasks.

    Args:
        groups: title → the policies' verdicts.
        trained: the policies that stand out.
        path: the SVG file.
    """
    with mpl.rc_context(STYLE):
        names = list(next(iter(groups.values())))
        figure = Figure(figsize=(5.2 * len(groups), 0.3 * len(names) + 1.2), layout="constrained")
        for place, (title, verdicts) in enumerate(groups.items(), 1):
            axes = figure.add_subplot(1, len(groups), place)
            firsts = {y: verdicts[name].first for y, name in enumerate(names) if name in verdicts}
            means = [100 * first.mean for first in firsts.values()]
            lengths = [
                [max(0.0, 100 * first.mean - 100 * first.ci95[0]) for first in firsts.values()],
                [max(0.0, 100 * first.ci95[1] - 100 * first.mean) for first in firsts.values()],
            ]
            colours = [JUDGED if names[y] in trained else BEST if names[y] == "oracle" else GREY for y in firsts]
            axes.barh(list(firsts), means, xerr=lengths, color=colours, height=0.6, error_kw={"elinewidth": 0.8})
            axes.set_yticks(range(len(names)), names if place == 1 else [""] * len(names))
            axes.invert_yaxis()
            axes.set_xlim(0, 100)
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("first attempts that improve the model, % (95 % intervals)")
        save_picture(figure, path)


def landscape(tasks: Sequence[str], points: Sequence[Strategy], shares: list[list[float]], path: Path) -> None:
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
        save_picture(figure, path)


def _short(point: Strategy, points: Sequence[Strategy]) -> str:
    """Return a strategy as text with the settings alone that differ among the points of its family."""
    mine = [other.canonical() for other in points if other.family == point.family]
    settings = point.canonical().items()
    shown = {key: value for key, value in settings if key == "family" or any(one.get(key) != value for one in mine)}
    return strategy_text(shown)
