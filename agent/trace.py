"""``python -m agent.trace``: see what runs did, compare them, and start one again from any of its steps."""

import argparse
import sys
from pathlib import Path

from agent.config import RunConfig
from cao.command_line import quiet_libraries, run_command
from cao.options import add_common, add_options, add_settable, command_parser


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
    fork = verb("fork", "start a new run with an old one's configuration, changed; steps before the change are kept")
    fork.add_argument("run", metavar="RUN")
    add_settable(fork, "any configuration key of the run", required=True)
    verb("html", "write report.html again and print its path").add_argument("run", metavar="RUN")
    prune = verb("prune", "show which runs would be removed; --yes removes them, and nothing but run folders")
    prune.add_argument("--keep", metavar="N", type=int, help="the newest N stay")
    prune.add_argument("--older-than", metavar="DAYS", type=float, help="only runs that began so many days ago")
    prune.add_argument("--unfinished", action="store_true", help="only runs without an outcome")
    prune.add_argument(
        "--parts", action="store_true", help="of finished runs only what resuming and replaying need: no run is lost"
    )
    prune.add_argument("--yes", action="store_true", help="remove what is shown without it")
    spans = verb("spans", "a run's steps and calls of models as OpenTelemetry's spans (extra otel)")
    spans.add_argument("run", metavar="RUN", nargs="?")
    where = "where to: a new file, or what OTEL_EXPORTER_OTLP_ENDPOINT names (the default)"
    spans.add_argument("--to", metavar="otlp|FILE", default="otlp", help=where)
    spans.add_argument("--follow", action="store_true", help="go on while it runs; without RUN, every run that begins")
    spans.add_argument("--dry-run", action="store_true", help="say what would be sent and where to, send nothing")
    board = verb("tensorboard", "rewards of runs and losses of trainings for TensorBoard (extra tensorboard)")
    board.add_argument("names", metavar="RUN|DIR", nargs="+", help="a run, or the folder of a training")
    board.add_argument("--to", metavar="DIR", required=True, help="the folder that TensorBoard is given")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = parser().parse_args(argv)
    arguments.out = Path(arguments.out)
    quiet_libraries(offline=arguments.verb not in ("replay", "fork"))  # these runs say themselves whether they are
    return run_command(lambda: _do(arguments), debug=arguments.debug)


def _do(arguments: argparse.Namespace) -> int:
    from agent.record.trace_verbs import verbs  # noqa: PLC0415  (after the arguments are understood)

    out, as_json = arguments.out, arguments.json
    if arguments.verb == "list":
        return verbs.list_all(out, as_json=as_json)
    if arguments.verb == "show":
        return verbs.show(out, arguments.run, as_json=as_json)
    if arguments.verb == "diff":
        return verbs.compare(out, arguments.runs, as_json=as_json)
    if arguments.verb == "html":
        return verbs.write_html(out, arguments.run, as_json=as_json)
    if arguments.verb == "prune":
        return verbs.prune_some(out, vars(arguments), yes=arguments.yes, as_json=as_json)
    if arguments.verb in ("spans", "tensorboard"):
        return _to_others(arguments)
    if arguments.verb == "graph":
        path = verbs.path_of(out, arguments.run) if arguments.run else None
        from agent.graph import mermaid  # noqa: PLC0415  (torch; a mistyped run is reported first)

        return verbs.show_graph(mermaid(), path, as_json=as_json)
    if arguments.verb == "replay":
        return _start_again(arguments, *verbs.replayable(out, arguments.run, arguments.node))
    return _start_again(arguments)


def _to_others(arguments: argparse.Namespace) -> int:
    """Hand records to other tools."""
    from agent.telemetry import verbs  # noqa: PLC0415  (after the arguments are understood)

    out, to, as_json = arguments.out, arguments.to, arguments.json
    if arguments.verb == "tensorboard":
        return verbs.tensorboard(out, arguments.names, to, as_json=as_json)
    return verbs.spans(out, arguments.run, to, follow=arguments.follow, dry_run=arguments.dry_run, as_json=as_json)


def _start_again(arguments: argparse.Namespace, name: str = "", offline: bool = True) -> int:
    """Make a new run of an old one; mistakes are told before what computes is imported.

    Args:
        arguments: of ``replay`` or ``fork``.
        name: of the run to replay.
        offline: whether that one stayed offline.
    """
    plan = None
    if arguments.verb == "fork":
        from agent.replay.changes import plan_fork  # noqa: PLC0415  (seconds to import)

        plan = plan_fork(arguments.out, arguments.run, arguments.assignments)
        sys.stderr.write(f"{plan.sentence()}\n")
        offline = plan.asked.config.offline
    quiet_libraries(offline=offline)
    from agent.replay.replay import fork, replay  # noqa: PLC0415  (torch; a mistyped run or value is reported first)

    if plan is not None:
        return fork(plan, as_json=arguments.json)
    return replay(arguments.out, name, arguments.node, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
