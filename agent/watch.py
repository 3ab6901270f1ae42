"""Watch a stream of prompts for drift: ``python -m agent.watch --stream FILE|-`` reads them as they come."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from agent.config import settings_of
from cao.command_line import run_main
from cao.configuration import Device, Offline, Registry
from cao.errors import InputError
from cao.options import SET, Option, add_common, add_options, command_parser
from cao.types import Record

if TYPE_CHECKING:
    from agent.config import RunConfig
    from agent.stream.source import FileSource, PipeSource
    from agent.stream.state import Adapted, Event, WatchSettings, WatchState
    from agent.stream.watcher import Adapt

MAX_WINDOW = 8192
"""Prompts collected behind an alarm at most; the state that is written after every batch holds them."""

MIN_WINDOW = 8
"""Fewer prompts get no verdict."""

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


class WatchOptions(Record):
    """What the command takes."""

    stream: Annotated[str, Field(description="the prompts, a line each; - reads standard input"), Option("FILE|-")]
    reference: Annotated[
        tuple[str, ...], Field(description="tasks expected"), Option("TASK", default="all registered ones")
    ] = ()
    registry: Registry = None
    adapt: Annotated[bool, Field(description="adapt to a new task by the graph, and swap the accepted adapter in")] = (
        False
    )
    run_length: Annotated[
        int, Field(ge=1, description="prompts without drift to a false alarm, on average"), Option("N")
    ] = 1000
    window: Annotated[
        int, Field(ge=MIN_WINDOW, le=MAX_WINDOW, description="prompts collected after an alarm"), Option("N")
    ] = 64
    out: Annotated[Path, Field(description="folder of this watch"), Option("DIR")] = Path("runs/watch")
    follow: Annotated[bool, Field(description="at the end of the file, wait for more")] = False
    seed: Annotated[int, Field(ge=0, description="of the smoothing and the permutations"), Option("N")] = 0
    device: Device = "cpu"
    offline: Offline = False


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    it = command_parser("agent.watch", __doc__, _EPILOG)
    add_options(it, WatchOptions)
    add_common(it, config=True, settable=SET)
    return it


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_main(
        parser(),
        lambda parsed: _watch(settings_of(WatchOptions, parsed, "watch"), parsed.config, as_json=parsed.json),
        arguments,
        unread=INTERRUPTED,
    )


def _watch(options: WatchOptions, file: Path | None, *, as_json: bool) -> int:
    from agent.loop.run_folder import locked  # noqa: PLC0415
    from agent.stream.watcher import Watcher  # noqa: PLC0415  (this and what follows: seconds to import)
    from cao.machine.assets import minilm_folder  # noqa: PLC0415
    from cao.model.encoder import Encoder  # noqa: PLC0415
    from tools.detect_drift.reference import known_tasks  # noqa: PLC0415

    folder = options.out
    source = _source(options, folder)
    adapt = _adapting(options, file, folder) if options.adapt else None
    encoder = Encoder(minilm_folder(), options.device)
    known = known_tasks(options.reference, encoder, folder=options.registry)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from None
    settings: WatchSettings = {
        "stream": options.stream,
        "reference": list(known.expected),
        "threshold": options.run_length,
        "window": options.window,
        "seed": options.seed,
        "encoder": encoder.sha256,
    }
    with locked(folder):
        state = _state(folder / "state.json", settings, known.expected)
        state = Watcher(folder, source, encoder, known, state, _teller(as_json=as_json), adapt).run()
    if state.unreadable and not state.prompts:
        raise InputError(f"{options.stream}: no prompt could be read: {unreadable(state.unreadable)}")
    return 0


def _source(options: WatchOptions, folder: Path) -> "FileSource | PipeSource":
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


def _state(path: Path, settings: "WatchSettings", expected: tuple[str, ...]) -> "WatchState":
    """Return the state to go on from: a fresh one, or what an earlier process left."""
    from agent.stream.state import WatchState  # noqa: PLC0415

    if not path.exists():
        return WatchState(settings=settings, current=list(expected))
    try:
        state = WatchState.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise InputError(f"{path}: damaged; give another --out") from None
    changed = [key for key, value in settings.items() if state.settings.get(key) != value]
    if changed:
        raise InputError(f"{path.parent} holds a watch with another {changed[0]}; repeat it, or give another --out")
    sys.stderr.write(f"going on behind prompt {state.prompts}\n")
    return state


def _adapting(options: WatchOptions, file: Path | None, folder: Path) -> "Adapt":
    """Return what adapts to a window: a run of the graph in the watch's folder, resumed if it was cut off.

    Raises:
        InputError: the configuration cannot be used, whatever the window.
    """
    from agent.config import make_config  # noqa: PLC0415
    from agent.loop import request  # noqa: PLC0415  (this and what follows: seconds to import)
    from agent.record.terminal import make_view  # noqa: PLC0415
    from cao.configuration import merge  # noqa: PLC0415

    machine = options.model_dump(include={"device", "offline"}, exclude_unset=True)

    def configure(path: Path, out: Path, lines: int, stored: Mapping[str, object]) -> "RunConfig":
        reward = test = lines // 3
        sizes = {"support": lines - reward - test, "reward": reward, "test": test}
        given = {"task": str(path), "out": str(out), "seed": options.seed, **sizes, **machine}
        return make_config(file, merge(stored, given), [])

    request.check_names(configure(folder / "window.jsonl", folder, options.window, {}))

    def adapt(task: str, path: Path) -> "Adapted":
        out = folder / "runs" / task
        lines = sum(1 for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        begun = sorted(out.glob("*/config.json")) if out.exists() else []
        try:
            stored = request.read_stored(out, begun[0].parent.name) if begun else None
            config = configure(path, out, lines, stored.config if stored else {})
            questions, splits, protocol = request.read_task(config)
        except InputError as error:
            return {"run": None, "told": f"{error} (adapting needs questions with their answers)"}
        from agent import session  # noqa: PLC0415

        view = make_view()
        try:
            record = session.run(request.Request(config, questions, splits, protocol, stored), view=view)
        finally:
            view.close()
        improved = record.status == "improved"
        outcome = f"run {record.run_id}: {record.status.replace('_', ' ')}"
        return {"run": f"runs/{task}/{record.run_id}" if improved else None, "told": outcome}

    return adapt


def _teller(*, as_json: bool) -> "Callable[[Event], None]":
    def tell(event: "Event") -> None:
        sys.stdout.write((json.dumps(event, ensure_ascii=False) if as_json else words(event)) + "\n")
        sys.stdout.flush()

    return tell


def words(event: "Event") -> str:
    """Return an event as one line that a person understands."""
    kind = event["event"]
    if kind == "start":
        return f"watching for prompts that are not from {', '.join(event['expected'])}"
    if kind == "alarm":
        return f"ALARM at prompt {event['prompt']}; the change may have begun at prompt {event['since']}"
    if kind == "window":
        from tools.detect_drift.wording import NOT_IDENTIFIABLE  # noqa: PLC0415  (imports torch)

        report = event["report"]
        caveats = report["caveats"]
        assert isinstance(caveats, list), caveats
        told = [report["sentence"], *(caveat for caveat in caveats if caveat != NOT_IDENTIFIABLE)]
        return f"the {report['n']} prompts behind it: " + ". ".join(map(str, told))
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
    note = f"neighbouring prompts resemble each other: one in {every} is judged from now on"
    if holds:
        return f"{note}; --run-length holds if prompts {every} apart are independent"
    return f"{note}, but more of them may: --run-length is not promised for this stream"


def unreadable(reasons: dict[str, int]) -> str:
    """Return how many lines could not be read, for each reason."""
    return ", ".join(f"{count} ({reason})" for reason, count in reasons.items())


if __name__ == "__main__":
    sys.exit(main())
