"""``python -m agent.trace``: see what runs did, compare them, and start one again from any of its steps."""

import argparse
import sys
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
    return run_command(lambda: _do(arguments), debug=arguments.debug)


def _do(arguments: argparse.Namespace) -> int:
    from agent.record import verbs  # noqa: PLC0415  (after the arguments are understood)

    out, as_json = arguments.out, arguments.json
    if arguments.verb == "list":
        return verbs.list_all(out, as_json=as_json)
    if arguments.verb == "show":
        return verbs.show(out, arguments.run, as_json=as_json)
    if arguments.verb == "diff":
        return verbs.compare(out, arguments.runs, as_json=as_json)
    if arguments.verb == "html":
        return verbs.write_html(out, arguments.run, as_json=as_json)
    if arguments.verb == "graph":
        path = verbs.path_of(out, arguments.run) if arguments.run else None
        from agent.graph import mermaid  # noqa: PLC0415  (torch; a mistyped run is reported first)

        return verbs.show_graph(mermaid(), path, as_json=as_json)
    name, offline = verbs.replayable(out, arguments.run, arguments.node)
    quiet_libraries(offline=offline)
    from agent.replay import replay  # noqa: PLC0415  (torch; a mistyped run or node is reported first)

    return replay(out, name, arguments.node, as_json=as_json)


if __name__ == "__main__":
    sys.exit(main())
