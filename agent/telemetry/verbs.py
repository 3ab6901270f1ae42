"""``agent.trace spans`` and ``agent.trace tensorboard``: the records of runs and of trainings, for other tools."""

import os
import shlex
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from agent.record.reading import read_run
from agent.record.runs import find_run
from agent.record.schema import Run
from agent.record.trace_file import read_trace
from agent.record.trace_verbs.printing import write_object
from agent.record.wording import count
from agent.telemetry.scalars import Curves, is_training, of_run, of_training
from agent.telemetry.spans import spans_of
from cao.encodings import visible
from cao.errors import InputError, UnavailableError
from cao.machine.extras import need
from policies.client.address import is_loopback, origin

OTLP = "otlp"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
DEFAULT_ENDPOINT = "http://localhost:4318"
"""The specification's own, a collector on this machine."""
WHAT = (
    "names, times and outcomes of a run's steps: task, models, drift, scores, strategies, tokens of calls; no text of "
    "a prompt, a question, a description or a reply; with the headers in OTEL_EXPORTER_OTLP_HEADERS"
)


def endpoint() -> str:
    """Return the address that takes spans, as the environment states it for every OpenTelemetry exporter.

    Raises:
        InputError: it is none.
    """
    whole, base = (os.environ.get(name, "") for name in ENDPOINTS)
    address = whole or f"{(base or DEFAULT_ENDPOINT).rstrip('/')}/v1/traces"
    try:
        origin(address)
    except InputError:
        raise InputError(f"{ENDPOINTS[0 if whole else 1]} is no address; write it like {DEFAULT_ENDPOINT}") from None
    return address


def refuse_offline(address: str, run: Run) -> None:
    """Raise UnavailableError where the spans of a run that was to stay offline would leave this machine."""
    if run.config.get("offline") is True and not is_loopback(address):
        raise UnavailableError(
            f"run {run.run_id} was made with --offline, and {origin(address)} is not on this machine; "
            "set OTEL_EXPORTER_OTLP_ENDPOINT to a collector here, or give --to FILE.jsonl"
        )


def spans(out: Path, name: str | None, to: str, *, follow: bool, dry_run: bool, as_json: bool) -> int:
    """Send a run's spans, or write them to a file.

    Args:
        out: the folder of runs.
        name: of the run; None to follow every run that is at work or begins.
        to: ``otlp``, or the file to write, a span a line.
        follow: go on until the run has ended.
        dry_run: say what would be sent, and where to.
        as_json: print an object.

    Raises:
        InputError: no such run, or the file is there.
        UnavailableError: a package is missing, or the spans were not taken.
    """
    need("otel")
    if name is None and not follow:
        raise InputError("which run? give RUN, or --follow for every run that is at work or begins")
    folder = find_run(out, name) if name is not None else None
    address = endpoint() if to == OTLP else None
    place = origin(address) if address else to
    if dry_run:
        return _show_plan(folder, address, place, as_json=as_json)
    from agent.telemetry import otel, sending  # noqa: PLC0415  (an optional extra)

    with ExitStack() as opened:
        if address is None:
            file = opened.enter_context(new_file(Path(to)).open("w", encoding="utf-8"))
            sender = sending.Sending(otel.into(file), place, lambda run: None)
        else:
            sender = sending.Sending(otel.over_otlp(address), place, partial(refuse_offline, address))
        if folder is None:
            sender.follow_all(out)
        elif follow:
            sender.follow(folder)
        else:
            sender.once(folder)
    if as_json:
        return write_object({"run_id": folder.name if folder else None, "spans": sender.count, "to": place})
    sys.stderr.write(f"{count(sender.count, 'span')} → {visible(place)}\n")
    return 0


def tensorboard(out: Path, names: list[str], to: str, *, as_json: bool) -> int:
    """Write the curves of runs and of trainings for TensorBoard.

    Args:
        out: the folder of runs.
        names: runs, and folders of trainings.
        to: the folder to fill, a folder in it for each of them.
        as_json: print an object.

    Raises:
        InputError: no such run or training.
        UnavailableError: a package is missing.
    """
    need("tensorboard")
    places = [Path(name) if is_training(Path(name)) else find_run(out, name) for name in names]
    curves: dict[str, Curves] = {}
    for place in places:
        if is_training(place):
            curves |= {f"{place.resolve().name}/{part}".rstrip("/"): drawn for part, drawn in of_training(place)}
        else:
            curves[place.name] = of_run(read_trace(place))
    from agent.telemetry.board import write_curves  # noqa: PLC0415  (an optional extra, and torch)

    points = {name: write_curves(Path(to) / name, drawn) for name, drawn in curves.items()}
    if as_json:
        return write_object({"to": to, "points": points})
    for name, number in points.items():
        sys.stdout.write(f"{visible(name)}: {count(number, 'point')}\n")
    sys.stdout.write(f"tensorboard --logdir {shlex.quote(to)}\n")
    return 0


def _show_plan(folder: Path | None, address: str | None, place: str, *, as_json: bool) -> int:
    """Print how many spans there are and where they would go; nothing is sent."""
    number = None
    if folder is not None:
        run = read_run(folder)
        if address:
            refuse_offline(address, run)
        number = len(spans_of(run, read_trace(folder)))
    away = address is not None and not is_loopback(address)
    leaving = [{"to": place, "why": "spans over OTLP", "what": WHAT}] if away else []
    if as_json:
        run_id = folder.name if folder else None
        return write_object({"run_id": run_id, "spans": number, "to": place, "leaves_this_machine": leaving})
    many = "the spans of runs that are at work or begin" if number is None else count(number, "span")
    sys.stdout.write(f"{many} → {visible(place)}\n{WHAT if leaving else 'nothing leaves this machine'}\n")
    return 0


def new_file(file: Path) -> Path:
    """Return a file that is not there yet, and can be made; a device is written to as it is.

    Raises:
        InputError: it is there, or its folder is not.
    """
    if file.is_file():
        raise InputError(f"{file} is there already; name another file")
    if not file.parent.is_dir() or file.is_dir():
        raise InputError(f"{file} cannot be made; name a file in a folder that is there")
    return file
