"""The picture of the imports: a row a layer, a box a package, arrows that follow from others left out."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from agent.record.wording import count
from eval.pages.import_graph import FLOORS, against, contracts, layers, order, rooms, sources

ROW, GAP = 0.72, 0.25
"""Height of a layer and space between boxes, in inches."""

FORWARD, AGAINST = "#9db4cc", "#c81e1e"
STYLE = {"svg.hashsalt": "cao", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 8}


@dataclass(frozen=True)
class Box:
    """What is drawn as one: a package, or the modules of one layer that lie side by side.

    Attributes:
        row: its layer.
        rooms: what it holds.
        lines: what it says.
    """

    row: int
    rooms: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def width(self) -> float:
        """How wide it is drawn, in inches."""
        return 0.2 + 0.068 * max(map(len, self.lines))


def boxes(rows: Mapping[str, int], files: Mapping[str, int]) -> list[Box]:
    """Return the boxes of a picture, the highest first.

    Args:
        rows: room → its layer.
        files: room → number of files.
    """
    made, flat = [], dict[tuple[int, str], list[str]]()
    for room, row in sorted(rows.items(), key=lambda item: (item[1], item[0])):
        top, _, name = room.partition(".")
        if files[room] > 1 and name:
            made.append(Box(row, (room,), (room, f"{files[room]} files")))
        else:
            flat.setdefault((row, top), []).append(room)
    for (row, top), some in flat.items():
        names = [room.partition(".")[2] or "(the package)" for room in some]
        lines = [", ".join(names[i : i + 5]) for i in range(0, len(names), 5)]
        made.append(Box(row, tuple(some), (f"{top}: {lines[0]}", *lines[1:])))
    return sorted(made, key=lambda box: (box.row, box.rooms))


def reduced(edges: set[tuple[Box, Box]]) -> set[tuple[Box, Box]]:
    """Return the arrows without those that follow from others: a → c where a → b → c is drawn.

    Args:
        edges: arrows that point down.
    """
    below: dict[Box, set[Box]] = {}
    for a, b in edges:
        below.setdefault(a, set()).add(b)

    def reach(box: Box) -> Iterator[Box]:
        for other in below.get(box, ()):
            yield other
            yield from reach(other)

    return {(a, b) for a, b in edges if not any(b in set(reach(c)) for c in below[a] if c != b)}


def draw_both(before: str, after: str, folder: Path) -> int:
    """Draw two commits' imports, say where the pictures lie, and return the exit status."""
    for name, revision in (("before", before), ("after", after)):
        path = folder / f"imports-{name}.svg"
        wrong = draw(name.capitalize(), sources(revision), path)
        sys.stdout.write(f"{path}: {count(len(wrong), 'arrow')} against the order\n")
    return 0


def draw(title: str, modules: Mapping[str, str], path: Path) -> list[tuple[str, str]]:
    """Draw a tree's imports and return those against the order.

    Args:
        title: what is drawn.
        modules: module → source text.
        path: the picture; its ending says the format.
    """
    files, edges = rooms(modules)
    ranked = order({room for edge in edges for room in edge}, edges, contracts())
    wrong, rows = against(ranked, edges), layers(ranked, edges)
    every = boxes(rows, files)
    of = {room: box for box in every for room in box.rooms}
    down = {(of[a], of[b]) for a, b in edges if (a, b) not in set(wrong) and of[a] != of[b]}
    with mpl.rc_context(STYLE):
        figure = _picture(title, every, reduced(down), [(of[a], of[b]) for a, b in wrong], wrong)
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
    return wrong


def _places(every: list[Box], arrows: set[tuple[Box, Box]]) -> dict[Box, float]:
    """Return where the middle of each box lies, in inches from the left: near the middle of what imports it."""
    middle: dict[Box, float] = {}
    for row in sorted({box.row for box in every}):
        mine = [box for box in every if box.row == row]

        def wanted(box: Box) -> float:
            above = [middle[a] for a, b in arrows if b == box]
            return sum(above) / len(above) if above else 0.0

        mine.sort(key=lambda box: (wanted(box), box.rooms))
        left = -(sum(box.width for box in mine) + GAP * (len(mine) - 1)) / 2
        for box in mine:
            middle[box] = left + box.width / 2
            left += box.width + GAP
    return middle


def _picture(
    title: str,
    every: list[Box],
    down: set[tuple[Box, Box]],
    up: list[tuple[Box, Box]],
    wrong: list[tuple[str, str]],
) -> Figure:
    middle = _places(every, down)
    deepest = max(box.row for box in every)
    half = max(abs(middle[box]) + box.width / 2 for box in every) + 0.7
    figure = Figure(figsize=(2 * half, ROW * (deepest + 2)))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-half, half)
    axes.set_ylim(-ROW * (deepest + 0.7), 1.3 * ROW)
    axes.set_axis_off()
    _bands(axes, every, half)
    for box in every:
        text = "\n".join(box.lines)
        face = "#eef3f8" if len(box.rooms) == 1 and len(box.lines) == 2 else "white"
        frame = {"boxstyle": "round,pad=0.35", "facecolor": face, "edgecolor": "#44566b", "linewidth": 0.8}
        axes.text(middle[box], -ROW * box.row, text, ha="center", va="center", bbox=frame, zorder=3)
    for arrows, colour, width, bend, above in ((_sorted(down), FORWARD, 0.8, 0.0, 1), (up, AGAINST, 1.8, 0.35, 4)):
        for a, b in arrows:
            start, end = (middle[a], -ROW * a.row), (middle[b], -ROW * b.row)
            axes.annotate(
                "",
                end,
                start,
                zorder=above,
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": colour,
                    "linewidth": width,
                    "shrinkA": 14 if above == 1 else 28,  # what lies above the boxes covers no text
                    "shrinkB": 15 if above == 1 else 20,
                    "connectionstyle": f"arc3,rad={bend}",
                },
            )
    text = "; ".join(f"{a} → {b}" for a, b in wrong)
    title = f"{title}: {count(len(wrong), 'arrow')} against the order"
    axes.text(-half + 0.1, ROW, title, fontsize=11, fontweight="bold", va="center")
    axes.text(-half + 0.1, 0.7 * ROW, text, color=AGAINST, va="center")
    return figure


def _sorted(arrows: set[tuple[Box, Box]]) -> list[tuple[Box, Box]]:
    """Return arrows in an order that is the same every time."""
    return sorted(arrows, key=lambda arrow: (arrow[0].row, arrow[0].rooms, arrow[1].rooms))


def _bands(axes: mpl.axes.Axes, every: list[Box], half: float) -> None:
    """Colour each floor's rows and name them at the left."""
    for number, floor in enumerate(FLOORS):
        rows = [box.row for box in every if box.rooms[0].split(".")[0] in floor]
        if not rows:
            continue
        top, bottom = -ROW * (min(rows) - 0.5), -ROW * (max(rows) + 0.5)
        axes.axhspan(bottom, top, color="#f7f4ee" if number % 2 else "#fdfcf9", zorder=0)
        axes.text(-half + 0.1, (top + bottom) / 2, "\n".join(floor), color="#8a7a5c", fontweight="bold", va="center")
