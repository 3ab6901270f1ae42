"""The report of a run: one self-contained HTML file, which loads nothing.

The template autoescapes, hidden characters become visible ones on their way in, and the page's own policy forbids
loading anything and every script but its own, which it knows by its hash: the texts of a policy are hostile. That
script filters and searches the questions; without it all are shown.
"""

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from agent.record import gains, starting, wording
from agent.record.commands import next_step, reproduce_command, trace_command
from agent.record.missing import missing_sentences
from agent.record.page.attempts import loss_intervals, test_bars
from agent.record.page.charts import loop_charts, start_charts
from agent.record.page.cost import cost_rows
from agent.record.page.drift import plane, read_picture, rows
from agent.record.page.path import drawn_graph, timeline
from agent.record.page.questions import paired_change, read_answers
from agent.record.reading import read_run
from agent.record.schema import RUNNING, UNFINISHED, Run
from agent.record.trace_file import Event, read_trace
from cao.encodings import visible
from cao.files import write_atomic

HERE = Path(__file__).parent

PARTS = {
    "test": "Test",
    "attempts": "Attempts",
    "questions": "Questions",
    "drift": "Drift",
    "path": "Path and time",
    "cost": "Cost",
    "reproduce": "Reproduce",
}
"""What the page's own links lead to."""


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


def render(run: Run, events: list[Event], folder: Path, home: str = "") -> str:
    """Return the report as HTML.

    Args:
        run: the run.
        events: its trace.
        folder: where its items are read from.
        home: address of the page of all runs, empty where there is none.
    """
    script, allowed = own_script(HERE / "report.js")
    improved = run.status == "improved"
    answers = read_answers(folder, improved=improved) if run.test else None
    absent = {"test": not run.test, "questions": not answers}
    picture = read_picture(folder)
    change = paired_change(folder, "test-baseline", "test-adapted", "correct") if improved else None
    step, command = next_step(run, folder.parent)
    headline = wording.headline(run)
    tone = "open" if run.status in (UNFINISHED, RUNNING) else "good" if headline == "Improved" else "doubtful"
    return (
        environment()
        .get_template("report_template.html")
        .render(
            w=wording,
            run=run,
            home=home,
            script=script,
            script_hash=allowed,
            parts=[(name, text) for name, text in PARTS.items() if not absent.get(name)],
            headline=headline,
            policy=wording.policy_text(run),
            tone=tone,
            verdict=wording.verdict(run, change).replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0"),
            missing=missing_sentences(run),
            step=step,
            command=command,
            start=starting.start_sentence(run),
            caveats=starting.caveats(run),
            start_charts=start_charts(run, folder),
            gains=gains,
            charts=loop_charts(run, folder),
            intervals=loss_intervals(run, folder),
            bars=test_bars(run.test) if run.test else None,
            answers=answers,
            compared=wording.compared_sentence(run),
            plane=plane(picture, run) if picture and run.drift else None,
            drift=rows(picture, run),
            graph=drawn_graph(events),
            timeline=timeline(run, events),
            cost=cost_rows(run, events),
            fork=trace_command("fork", folder.parent, run.run_id, "--set", "KEY=VALUE"),
            settings=wording.flatten(run.config),
            reproduce=reproduce_command(run),
            compute=wording.compute_text(run),
        )
    )


@cache
def environment(*folders: Path) -> Environment:
    """Return what renders templates: it escapes, and makes hidden characters visible.

    Args:
        folders: of templates, besides this one.
    """
    return Environment(
        loader=FileSystemLoader([HERE, *folders]),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def own_script(file: Path) -> tuple[Markup, Markup]:
    """Return a script of this project, and by what a page's policy allows it and no other one.

    Args:
        file: that holds it.
    """
    script = file.read_text(encoding="utf-8")
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Markup(script), Markup(f"'sha256-{hashed}'")


def _shown(value: object) -> str:
    return value if isinstance(value, Markup) else visible(value)
