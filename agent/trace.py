"""``python -m agent.trace``: see what runs did, compare them, and start one again from any of its steps."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from agent.config import RunConfig
from cao.command_line import quiet_libraries, run_command
from cao.options import add_common, add_options, command_parser


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    shared = argparse.ArgumentParser(add_help=False)
    add_options(shared, RunConfig, ("out",))
    shared.set_defaults(out=RunConfig.model_fields["out"].default)
    add_common(shared)
    p = command_parser("agent.trace", __doc__)
    verbs = p.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text, parents=[shared])

    verb("list", "every run, the newest first")
    verb("show", "one run: its steps, attempts, drift, test and time").add_argument("run", metavar="RUN")
    verb("graph", "the graph as Mermaid text; with RUN also the path taken").add_argument(
        "run", metavar="RUN", nargs="?"
    )
    verb("diff", "two runs side by side").add_argument("runs", metavar="RUN", nargs=2)
    replay = verb("replay", "start a new run from a step of an old one")
    replay.add_argument("run", metavar="RUN")
    replay.add_argument("--from", metavar="NODE", dest="node", required=True, help="the step to start with")
    verb("html", "write report.html again and print its path").add_argument("run", metavar="RUN")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = parser().parse_args(argv)
    arguments.out = Path(arguments.out)
    quiet_libraries(offline=arguments.verb != "replay")  # a replayed run says itself whether it is offline
    return run_command(lambda: VERBS[arguments.verb](arguments), debug=arguments.debug)


def _list(arguments: argparse.Namespace) -> int:
    from agent.record.runs import list_runs  # noqa: PLC0415  (after the arguments are understood)

    runs = list_runs(arguments.out)
    if arguments.json:
        return _write_json({"runs": [run.model_dump(mode="json") for run in runs]})
    from agent.record.view import show_list  # noqa: PLC0415

    show_list(runs, arguments.out, datetime.now(UTC))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from agent.record.reading import read_run  # noqa: PLC0415
    from agent.record.runs import find_run  # noqa: PLC0415
    from agent.record.trace_file import read_trace  # noqa: PLC0415

    path = find_run(arguments.out, arguments.run)
    run, events = read_run(path), read_trace(path)
    if arguments.json:
        return _write_json({**run.model_dump(mode="json"), "last_node": run.last_node, "events": events})
    from agent.record.view import show_run  # noqa: PLC0415

    show_run(run, events, path)
    return 0


def _graph(arguments: argparse.Namespace) -> int:
    from agent.record.runs import find_run  # noqa: PLC0415
    from agent.record.trace_file import read_trace, visits  # noqa: PLC0415

    path = visits(read_trace(find_run(arguments.out, arguments.run))) if arguments.run else None
    from agent.graph import mermaid  # noqa: PLC0415  (imports torch; a mistyped run is reported first)

    if arguments.json:
        taken = {} if path is None else {"path": path, "visits": dict(Counter(path))}
        return _write_json({"mermaid": mermaid(), **taken})
    sys.stdout.write(mermaid().rstrip() + "\n")
    if path is not None:
        from agent.record.wording import visible  # noqa: PLC0415

        counts = ", ".join(f"{visible(node)} {count}" for node, count in Counter(path).items())
        sys.stdout.write(f"\n%% path taken: {' → '.join(map(visible, path)) or 'none yet'}\n%% visits: {counts}\n")
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from agent.record.diff import differences, show_diff  # noqa: PLC0415
    from agent.record.reading import read_run  # noqa: PLC0415
    from agent.record.runs import find_run  # noqa: PLC0415

    first, second = (read_run(find_run(arguments.out, run)) for run in arguments.runs)
    if arguments.json:
        return _write_json(differences(first, second))
    show_diff(first, second)
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    from agent.record.reading import read_run  # noqa: PLC0415
    from agent.record.runs import find_run  # noqa: PLC0415
    from agent.record.trace_file import read_trace, visits  # noqa: PLC0415
    from cao.errors import InputError  # noqa: PLC0415

    path = find_run(arguments.out, arguments.run)
    seen = list(dict.fromkeys(visits(read_trace(path))))
    if arguments.node not in seen:
        raise InputError(
            f"run {path.name} never came to {arguments.node!r}; it went through {', '.join(seen) or 'nothing'}"
        )
    quiet_libraries(offline=read_run(path).config.get("offline") is True)
    from agent.replay import replay  # noqa: PLC0415  (imports torch)

    return replay(arguments.out, path.name, arguments.node, as_json=arguments.json)


def _html(arguments: argparse.Namespace) -> int:
    from agent.record.report import write_report  # noqa: PLC0415
    from agent.record.runs import find_run  # noqa: PLC0415

    written = write_report(find_run(arguments.out, arguments.run))
    if arguments.json:
        return _write_json({"path": str(written)})
    sys.stdout.write(f"{written}\n")
    return 0


def _write_json(value: Mapping[str, object]) -> int:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")  # ASCII only: a policy's text must not steer the terminal
    return 0


VERBS = {"list": _list, "show": _show, "graph": _graph, "diff": _diff, "replay": _replay, "html": _html}


if __name__ == "__main__":
    sys.exit(main())
