"""The report of a run: one self-contained HTML file, without scripts and without the network.

The template autoescapes, hidden characters become visible ones on their way in, and the page's own policy forbids
scripts and loading anything: the texts of a policy are hostile.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from agent.record import gains, wording
from agent.record.commands import next_step, reproduce_command
from agent.record.events import evaluations_text
from agent.record.missing import missing_sentences
from agent.record.page.charts import loop_charts, start_charts
from agent.record.page.questions import SHOWN, paired_change, read_answers
from agent.record.reading import read_run
from agent.record.schema import RUNNING, UNFINISHED, Run
from agent.record.trace_file import Event, read_trace, visits
from cao.encodings import visible
from cao.files import write_atomic

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


def render(run: Run, events: list[Event], folder: Path) -> str:
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
        missing=missing_sentences(run),
        step=step,
        command=command,
        start=wording.start_sentence(run),
        start_charts=start_charts(run, folder),
        gains=gains,
        charts=loop_charts(run, folder),
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


def _shown(value: object) -> str:
    return value if isinstance(value, Markup) else visible(value)


def _drift_bars(run: Run) -> list[dict[str, object]]:
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


def _graph(path: list[str]) -> dict[str, object]:
    seen = Counter(path)
    taken = Counter(pairwise(path))
    return {
        "nodes": [{"name": name, "x": x, "y": y, "visits": seen[name]} for name, (x, y) in NODES.items()],
        "edges": [{"d": d, "count": taken[edge]} for edge, d in EDGES.items()],
        "path": path,
        "started": path[:1] == ["describe"],
        "ended": "conclude" in seen,
    }


def _times(run: Run) -> list[dict[str, object]]:
    total = sum(run.timing_s.values())
    if total <= 0:
        return []
    longest = sorted(run.timing_s.items(), key=lambda entry: -entry[1])
    return [{"name": name, "seconds": s, "share": s / total, "hue": i % 8} for i, (name, s) in enumerate(longest)]
