"""What ``python -m agent.trace`` does with the records alone: list, show, compare, write the report again, remove."""

import sys
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from agent.record.page.report import write_report
from agent.record.reading import read_run
from agent.record.runs import find_run, list_runs
from agent.record.trace_file import read_trace, visits
from agent.record.trace_verbs.diff import differences, show_diff
from agent.record.trace_verbs.printing import write_object
from agent.record.trace_verbs.prune import Selection, prune
from agent.record.trace_verbs.view import show_list, show_run
from cao.configuration import validated
from cao.encodings import visible
from cao.errors import InputError


def list_all(out: Path, *, as_json: bool) -> int:
    """Print every run of a folder, the newest first."""
    runs = list_runs(out)
    if as_json:
        return write_object({"runs": [run.model_dump(mode="json") for run in runs]})
    show_list(runs, out, datetime.now(UTC))
    return 0


def show(out: Path, name: str, *, as_json: bool) -> int:
    """Print one run."""
    path = find_run(out, name)
    run, events = read_run(path), read_trace(path)
    if as_json:
        return write_object({**run.model_dump(mode="json"), "last_node": run.last_node, "events": events})
    show_run(run, events, path)
    return 0


def compare(out: Path, names: list[str], *, as_json: bool) -> int:
    """Print two runs side by side."""
    first, second = (read_run(find_run(out, name)) for name in names)
    if as_json:
        return write_object(differences(first, second))
    show_diff(first, second)
    return 0


def write_html(out: Path, name: str, *, as_json: bool) -> int:
    """Write a run's report again and print where it lies."""
    written = write_report(find_run(out, name))
    if as_json:
        return write_object({"path": str(written)})
    sys.stdout.write(f"{written}\n")
    return 0


def prune_some(out: Path, options: Mapping[str, object], *, yes: bool, as_json: bool) -> int:
    """Show which runs, or which parts of runs, would be removed; remove them where that was confirmed.

    Args:
        out: the folder of runs.
        options: the fields of ``Selection``, among others.
        yes: whether to remove them.
        as_json: print an object.
    """
    asked = validated(Selection, {key: options[key] for key in Selection.model_fields}, "prune")
    return prune(out, asked, yes=yes, as_json=as_json)


def path_of(out: Path, name: str) -> list[str]:
    """Return the nodes that a run went through, in order."""
    return visits(read_trace(find_run(out, name)))


def show_graph(mermaid: str, path: list[str] | None, *, as_json: bool) -> int:
    """Print the graph as Mermaid text, and the path that a run took through it.

    Args:
        mermaid: the graph.
        path: as ``path_of`` gives it, None for the graph alone.
        as_json: print an object.
    """
    if as_json:
        taken = {} if path is None else {"path": path, "visits": dict(Counter(path))}
        return write_object({"mermaid": mermaid, **taken})
    sys.stdout.write(mermaid.rstrip() + "\n")
    if path is not None:
        counts = ", ".join(f"{visible(node)} {count}" for node, count in Counter(path).items())
        sys.stdout.write(f"\n%% path taken: {' → '.join(map(visible, path)) or 'none yet'}\n%% visits: {counts}\n")
    return 0


def replayable(out: Path, name: str, node: str) -> tuple[str, bool]:
    """Return the full name of a run that can start again from a node, and whether it stayed offline.

    Raises:
        InputError: the run never came to that node.
    """
    path = find_run(out, name)
    seen = list(dict.fromkeys(visits(read_trace(path))))
    if node not in seen:
        raise InputError(f"run {path.name} never came to {node!r}; it went through {', '.join(seen) or 'nothing'}")
    return path.name, read_run(path).config.get("offline") is True
