"""The pages about several runs: all of a folder in a table, and two side by side."""

from pathlib import Path

from agent.record import wording
from agent.record.page.report import environment, own_script
from agent.record.runs import RunSummary
from agent.record.schema import Run
from agent.record.trace_verbs.diff import differences
from agent.record.trace_verbs.view import from_to

HERE = Path(__file__).parent


def render_list(runs: list[RunSummary], out: Path, start: str) -> str:
    """Return the page of all runs as HTML.

    Args:
        runs: what ``list_runs`` returned.
        out: the folder of runs.
        start: the command of a first run.
    """
    script, allowed = own_script(HERE / "runs.js")
    return (
        environment(HERE)
        .get_template("list.html")
        .render(
            w=wording,
            runs=runs,
            out=out.absolute(),
            start=start,
            from_to=from_to,
            gain=_gain,
            script=script,
            script_hash=allowed,
        )
    )


def _gain(run: RunSummary) -> float:
    """Return the change of the accuracy on test, by which runs are ordered; −1 where there is none."""
    if run.test_adapted is None or run.test_base is None:
        return -1.0
    return run.test_adapted - run.test_base


def render_compare(first: Run, second: Run) -> str:
    """Return the page of two runs side by side as HTML."""
    found = differences(first, second)
    tables = {
        "Measures": found["measures"],
        "Configuration": found["config"],
        "Computed with": found["compute"],
        "Versions": found["versions"],
    }
    page = environment(HERE).get_template("compare.html")
    return page.render(w=wording, runs=(first, second), tables=tables, trials=found["trials"], shown=_shown)


def _shown(cell: object) -> str:
    return "—" if cell is None else wording.one_line(str(cell), 300)
