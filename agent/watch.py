"""Watch a stream of prompts for drift: ``python -m agent.watch --stream FILE|-`` reads them as they come."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cao.command_line import positive, quiet_libraries, run_command
from cao.errors import InputError

if TYPE_CHECKING:
    from agent.config import RunConfig
    from agent.stream.source import FileSource, PipeSource
    from agent.stream.watcher import Adapt

MAX_WINDOW = 8192
"""Prompts collected behind an alarm at most; the state that is written after every batch holds them."""

INTERRUPTED = 130
"""Exit status also where nobody reads the events any more: the watch can go on."""

_EPILOG = """A line of the stream is a text, or an object with prompt, question, content or messages (a chat, of which
the user's last message counts), and perhaps context, choices, answer and correct. Lines that cannot be read are
counted, and the first for each reason is shown. A file that is rotated is read to its end, then what took its place;
one that is cut is read from its beginning. An alarm is raised at most once in --run-length prompts, on average, while
nothing drifts. The prompts behind an alarm are collected and named; from then on the tasks that they come from are
expected. Everything is written to --out: events.jsonl, state.json, new references, deployed.json. Stopped in any way,
the same command goes on; behind a pipe only if the same pipe continues: what was read of it is kept, and a pipe that
begins anew counts as more of the stream. Exit status: 0 the stream ended; 2 bad input, or no line of it could be read;
3 something needed is not installed; 130 interrupted, or nobody reads the events, resumable."""


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    it = argparse.ArgumentParser(prog="python -m agent.watch", description=__doc__, epilog=_EPILOG)
    a = it.add_argument
    a("--stream", required=True, metavar="FILE|-", help="the prompts, a line each; - reads standard input")
    a("--reference", nargs="+", action="extend", metavar="TASK", help="tasks expected (default: all registered ones)")
    a("--registry", type=Path, metavar="DIR", help="of one's own references (default: the user's data)")
    a("--adapt", action="store_true", help="adapt to a new task by the graph, and swap the accepted adapter in")
    a("--config", type=Path, metavar="FILE.toml", help="configuration of the adaptation runs")
    a(
        "--run-length",
        type=positive,
        default=1000,
        metavar="N",
        help="prompts without drift to a false alarm, on average",
    )
    a("--window", type=positive, default=64, metavar="N", help="prompts collected after an alarm (default %(default)s)")
    a("--out", type=Path, default=Path("runs/watch"), metavar="DIR", help="folder of this watch (default %(default)s)")
    a("--follow", action="store_true", help="at the end of the file, wait for more")
    a("--seed", type=int, default=0, help="of the smoothing and the permutations (default %(default)s)")
    a("--json", action="store_true", help="print events as JSON lines instead of words")
    a("--offline", action="store_true", help="never use the network")
    a("--debug", action="store_true", help="show tracebacks of expected errors")
    return it


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = parser().parse_args(arguments)
    quiet_libraries(offline=options.offline)
    return run_command(lambda: _watch(options), debug=options.debug, unread=INTERRUPTED)


def _watch(options: argparse.Namespace) -> int:
    if options.seed < 0:
        raise InputError(f"--seed {options.seed}: must be 0 or above")
    if options.window < 8:
        raise InputError(f"--window {options.window}: 8 prompts at least, or no window gets a verdict")
    if options.window > MAX_WINDOW:
        raise InputError(f"--window {options.window}: {MAX_WINDOW} prompts at most")

    from agent.loop.run_folder import locked  # noqa: PLC0415
    from agent.stream.watcher import Watcher  # noqa: PLC0415  (this and what follows: seconds to import)
    from cao.machine.assets import minilm_folder  # noqa: PLC0415
    from cao.model.encoder import Encoder  # noqa: PLC0415
    from tools.detect_drift.reference import known_tasks  # noqa: PLC0415

    folder: Path = options.out
    source = _source(options, folder)
    adapt = _adapting(options, folder) if options.adapt else None
    encoder = Encoder(minilm_folder())
    known = known_tasks(options.reference or (), encoder, folder=options.registry)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from None
    settings = {
        "stream": options.stream,
        "reference": list(known.expected),
        "threshold": options.run_length,
        "window": options.window,
        "seed": options.seed,
        "encoder": encoder.sha256,
    }
    with locked(folder):
        state = _state(folder / "state.json", settings, known.expected)
        state = Watcher(folder, source, encoder, known, state, _teller(options), adapt).run()
    if state.unreadable and not state.prompts:
        raise InputError(f"{options.stream}: no prompt could be read: {unreadable(state.unreadable)}")
    return 0


def _source(options: argparse.Namespace, folder: Path) -> "FileSource | PipeSource":
    from agent.stream.source import FileSource, PipeSource  # noqa: PLC0415

    if options.stream == "-":
        return PipeSource(folder / "journal.jsonl")
    path = Path(options.stream)
    if os.path.isdir(path):
        raise InputError(f"{path}: is a directory")
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if not os.path.isfile(path):
        raise InputError(f"{path}: is no regular file and cannot be read anew after a stop; give --stream - < {path}")
    return FileSource(path, options.follow)


def _state(path: Path, settings: dict[str, Any], expected: tuple[str, ...]) -> Any:
    """Return the state to go on from: a fresh one, or what an earlier process left."""
    from agent.stream.watcher import WatchState  # noqa: PLC0415

    if not path.exists():
        return WatchState(settings=settings, current=list(expected))
    try:
        state = WatchState.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise InputError(f"{path}: damaged; give another --out") from None
    changed = [key for key in settings if state.settings.get(key) != settings[key]]
    if changed:
        raise InputError(f"{path.parent} holds a watch with another {changed[0]}; repeat it, or give another --out")
    sys.stderr.write(f"going on behind prompt {state.prompts}\n")
    return state


def _adapting(options: argparse.Namespace, folder: Path) -> "Adapt":
    """Return what adapts to a window: a run of the graph in the watch's folder, resumed if it was cut off.

    Raises:
        InputError: the configuration cannot be used, whatever the window.
    """
    from agent.config import make_config, merge  # noqa: PLC0415
    from agent.loop import request  # noqa: PLC0415  (this and what follows: seconds to import)
    from agent.record.terminal import make_view  # noqa: PLC0415

    def configure(path: Path, out: Path, lines: int, stored: dict[str, Any]) -> "RunConfig":
        reward = test = lines // 3
        sizes = {"support": lines - reward - test, "reward": reward, "test": test}
        given = {"task": str(path), "out": str(out), "seed": options.seed, "offline": options.offline, **sizes}
        return make_config(options.config, merge(stored, given), [])

    request.check_names(configure(folder / "window.jsonl", folder, options.window, {}))

    def adapt(task: str, path: Path) -> dict[str, Any]:
        out = folder / "runs" / task
        lines = sum(1 for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        begun = sorted(out.glob("*/config.json")) if out.exists() else []
        try:
            stored = request.read_stored(out, begun[0].parent.name) if begun else {}
            config = configure(path, out, lines, stored.get("config", {}))
            questions, splits, protocol = request.read_task(config)
        except InputError as error:
            return {"run": None, "told": f"{error} (adapting needs questions with their answers)"}
        from agent import session  # noqa: PLC0415

        view = make_view()
        try:
            record = session.run(config, questions, splits, protocol, view=view, stored=stored)
        finally:
            view.close()
        improved = record.status == "improved"
        told = f"run {record.run_id}: {record.status.replace('_', ' ')}"
        return {"run": f"runs/{task}/{record.run_id}" if improved else None, "told": told}

    return adapt


def _teller(options: argparse.Namespace) -> Any:
    def tell(event: dict[str, Any]) -> None:
        sys.stdout.write((json.dumps(event, ensure_ascii=False) if options.json else words(event)) + "\n")
        sys.stdout.flush()

    return tell


def words(event: dict[str, Any]) -> str:
    """Return an event as one line that a person understands."""
    kind = event["event"]
    if kind == "start":
        return f"watching for prompts that are not from {', '.join(event['expected'])}"
    if kind == "alarm":
        return f"ALARM at prompt {event['prompt']}; the change may have begun at prompt {event['since']}"
    if kind == "window":
        from tools.detect_drift.wording import NOT_IDENTIFIABLE  # noqa: PLC0415  (imports torch)

        report = event["report"]
        caveats = [caveat for caveat in report["caveats"] if caveat != NOT_IDENTIFIABLE]
        return f"the {report['n']} prompts behind it: " + ". ".join([report["sentence"], *caveats])
    if kind == "new_task":
        return f"they are known from now on as {event['task']} ({event['prompts']} prompts)"
    if kind == "thinned":
        return thinned(event["every"], holds=event["holds"])
    if kind == "no_change":
        return "nothing to change: the same tasks are expected as before"
    if kind == "expect":
        return f"expecting {', '.join(event['tasks'])} from now on"
    if kind == "adapter":
        used = event["adapter"] or f"{event['run']}/strategy.json"
        return f"deployed for {event['task']}: {used} ({'stored' if event['stored'] else event['told']})"
    if kind == "not_adapted":
        return f"no adapter for {event['task']}: {event['reason']}"
    if kind == "skipped":
        so_far = f" ({event['count']} such lines so far)" if event["count"] > 1 else ""
        return f"line {event['line']} skipped: {event['reason']}{so_far}"
    lost = f", of which could not be read: {unreadable(event['unreadable'])}" if event["unreadable"] else ""
    return f"the stream ended: {event['prompts']} prompts, {event['alarms']} alarms, {event['skipped']} skipped{lost}"


def thinned(every: int, *, holds: bool) -> str:
    """Return how neighbouring prompts are dealt with from now on.

    Args:
        every: one prompt in so many is judged.
        holds: whether the promised run length holds then.
    """
    if every == 1:
        return "neighbouring prompts do not resemble each other: every prompt is judged from now on"
    told = f"neighbouring prompts resemble each other: one in {every} is judged from now on"
    if holds:
        return f"{told}; --run-length holds if prompts {every} apart are independent"
    return f"{told}, but more of them may: --run-length is not promised for this stream"


def unreadable(reasons: dict[str, int]) -> str:
    """Return how many lines could not be read, for each reason."""
    return ", ".join(f"{count} ({reason})" for reason, count in reasons.items())


if __name__ == "__main__":
    sys.exit(main())
