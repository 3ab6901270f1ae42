"""The report's graph with the path that a run took through it, and its steps over time."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from agent.record.events import sentence
from agent.record.schema import Run
from agent.record.trace_file import Event, visits
from agent.record.wording import duration, one_line

NODES = {
    "describe": (75, 44),
    "detect": (225, 44),
    "generate": (375, 44),
    "align": (525, 44),
    "choose": (525, 144),
    "decide": (225, 144),
    "apply": (225, 240),
    "evaluate": (375, 240),
    "conclude": (75, 144),
}
"""Where the graph's nodes stand, in SVG units."""

EDGES = {
    ("describe", "detect"): "M129 44H170",
    ("detect", "generate"): "M279 44H320",
    ("generate", "align"): "M429 44H470",
    ("align", "choose"): "M525 64V123",
    ("choose", "decide"): "M471 144H280",
    ("decide", "apply"): "M240 164V219",
    ("apply", "evaluate"): "M279 240H320",
    ("evaluate", "decide"): "M360 220C350 190 310 172 268 165",
    ("evaluate", "conclude"): "M375 260C370 312 40 312 58 165",
    ("decide", "decide"): "M212 124C196 84 262 84 244 123",
    ("apply", "decide"): "M208 220V165",
    ("apply", "conclude"): "M171 246C120 246 96 216 88 165",
    ("detect", "conclude"): "M196 64C186 104 100 84 86 123",
    ("decide", "conclude"): "M171 144H130",
}
"""The graph's edges as SVG paths."""

LEAST = 0.4
"""Width of a step that took no time to speak of, in percent of the whole."""


@dataclass(frozen=True)
class Step:
    """One visit of a node: where it begins and how long it takes, in percent of the run, and what is told of it."""

    left: float
    width: float
    title: str
    open: bool = False


@dataclass
class Lane:
    """A node's visits, and its time in words."""

    name: str
    hue: int
    steps: list[Step] = field(default_factory=list)
    seconds: float = 0.0
    share: float = 0.0


@dataclass(frozen=True)
class Timeline:
    """The steps over time, a lane each node, and where a process took over from a killed one."""

    lanes: list[Lane]
    resumed: list[float]
    total: float


def drawn_graph(events: list[Event]) -> dict[str, object]:
    """Return the graph's nodes and edges with how often each was taken."""
    path = visits(events)
    seen, taken = Counter(path), Counter(pairwise(path))
    return {
        "nodes": [{"name": name, "x": x, "y": y, "visits": seen[name]} for name, (x, y) in NODES.items()],
        "edges": [{"d": d, "count": taken[edge]} for edge, d in EDGES.items()],
        "path": path,
        "started": path[:1] == ["describe"],
        "ended": "conclude" in seen,
    }


def timeline(run: Run, events: list[Event]) -> Timeline | None:
    """Return the steps of a run over the time that its nodes took, None where none has ended.

    Time between a kill and the resumption is left out.

    Args:
        run: the run, whose times of the nodes count where run.json states them.
        events: its trace.
    """
    ends = [event for event in events if event["event"] == "end"]
    total = sum(max(0.0, event.get("seconds", 0.0)) for event in ends)
    if total <= 0:
        return None
    lanes: dict[str, Lane] = {}
    resumed: list[float] = []
    clock, waiting = 0.0, ""
    for event in events:
        name, kind = event["node"], event["event"]
        if kind == "start":
            waiting = name
        elif kind == "resume":
            resumed.append(round(100 * clock / total, 2))
        elif kind == "end":
            seconds, waiting = max(0.0, event.get("seconds", 0.0)), ""
            lane = lanes.setdefault(name, Lane(name, _hue(name)))
            width = round(max(LEAST, 100 * seconds / total), 2)
            left = round(min(100 * clock / total, 100 - width), 2)
            lane.steps.append(Step(left, width, _title(event, seconds)))
            lane.seconds += seconds
            clock += seconds
    if waiting:
        lane = lanes.setdefault(waiting, Lane(waiting, _hue(waiting)))
        lane.steps.append(Step(99.0, 1.0, f"{waiting} began and has not ended", open=True))
    for name, seconds in run.timing_s.items():
        lanes.setdefault(name, Lane(name, _hue(name))).seconds = seconds
    whole = sum(lane.seconds for lane in lanes.values())
    for lane in lanes.values():
        lane.share = lane.seconds / whole if whole > 0 else 0.0
    return Timeline(list(lanes.values()), resumed, total)


def _hue(name: str) -> int:
    return list(NODES).index(name) % 8 if name in NODES else 7


def _title(event: Event, seconds: float) -> str:
    try:
        told = sentence(event["node"], event.get("data") or {})
    except ValueError:
        told = ""  # of another version
    return one_line(": ".join(filter(None, (f"{event['node']}, {duration(seconds)}", told))), 300)
