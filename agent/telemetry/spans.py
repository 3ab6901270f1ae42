"""A run's trace as spans: one for the run, one a visit of a node, one a call of a language model.

Spans are made of the record alone, by whoever wants them: the run does not wait for them and cannot fail by them. Their
ids follow from the run's, so that the same span has the same id whenever it is made.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from agent.record.events import NodeEnd
from agent.record.schema import RUNNING, UNFINISHED, Run
from agent.record.trace_file import Event
from cao.encodings import visible
from cao.errors import InputError
from cao.files import is_path, sha256_bytes
from cao.inference.calls import Call

Value = str | bool | int | float
Attributes = Mapping[str, Value]

NANO = 1_000_000_000
ROOT = "run"
"""The key of the run's own span."""


@dataclass(frozen=True)
class Span:
    """What took time in a run.

    Attributes:
        key: names it in its run.
        parent: key of the span that it is part of, None for the run's own.
        name: what tools show.
        start: nanoseconds since the epoch.
        end: the same; None while it goes on.
        attributes: by OpenTelemetry's conventions for generative AI where these have a name, else under ``cao.``.
        error: the type of what it failed with, empty where it did not.
        remote: whether another process did the work.
    """

    key: str
    parent: str | None
    name: str
    start: int
    end: int | None
    attributes: Attributes = field(default_factory=dict)
    error: str = ""
    remote: bool = False


def trace_id(run_id: str) -> int:
    """Return the id of a run's trace, 128 bits."""
    return int(sha256_bytes(run_id.encode())[:32], 16)


def span_id(run_id: str, key: str) -> int:
    """Return the id of a span, 64 bits."""
    return int(sha256_bytes(f"{run_id}:{key}".encode())[:16], 16)


def spans_of(run: Run, events: list[Event]) -> list[Span]:
    """Return a run's spans, a parent before its children; none where nothing has happened yet.

    No text of a prompt, a question, a description or a reply is in them.

    Args:
        run: the run as far as it came.
        events: its trace.

    Raises:
        InputError: an event is of another version.
    """
    made: list[Span] = []
    visit: Span | None = None
    for number, event in enumerate(events):
        kind, name, now = event["event"], event["node"], time_of(event)
        if kind in ("start", "resume") and visit:  # the process was killed in it
            made, visit = [*_without(made, visit), _ended(visit, _latest(made, visit), error="interrupted")], None
        if kind == "start":
            visit = Span(f"{number}", ROOT, visible(name), now, None, _stated({"cao.node": name}))
            made.append(visit)
        elif kind == "call" and visit:
            made.append(_call(event, number, visit.key, now))
        elif kind == "end" and visit:
            whole = _ended(visit, visit.start + round(event.get("seconds", 0.0) * NANO), _outcome(event))
            made, visit = [*_without(made, visit), whole], None
    if not made:
        return []
    if visit and run.status == UNFINISHED:
        made = [*_without(made, visit), _ended(visit, _latest(made, visit), error="interrupted")]
    return [_root(run, made, time_of(events[-1])), *sorted(made, key=lambda span: int(span.key))]


def _root(run: Run, made: list[Span], last: int) -> Span:
    """Return the run's own span; it goes on as long as a process is at work."""
    end = None if run.status == RUNNING else max(last, *(span.end or span.start for span in made))
    test, task = run.test, run.task
    if task and is_path(task):  # as an unfinished run has it; where a file lies is nobody's business
        task = Path(task).stem
    known = {
        "cao.run_id": run.run_id,
        "cao.status": run.status,
        "cao.task": task,
        "cao.model": run.model,
        "cao.policy": run.policy,
        "cao.describer": run.describer,
        "cao.seed": run.seed,
        "cao.attempts": len(run.trials),
        "cao.test.accuracy.deployed": test.baseline.accuracy if test else None,
        "cao.test.accuracy.adapted": test.adapted.accuracy if test else None,
    }
    start = min(span.start for span in made)
    error = "unfinished" if run.status == UNFINISHED else ""
    return Span(ROOT, None, f"run {visible(task or run.run_id)}", start, end, _stated(known), error)


def _outcome(event: Event) -> Attributes:
    """Return what a node's end says in numbers and in words of ours."""
    end = node_end(event)
    trial, reward = end.trial, end.trial.reward if end.trial else end.baseline
    strategy = trial.strategy if trial else end.proposal
    return _stated(
        {
            "cao.describer": end.context.source if end.context else None,
            "cao.drift.kind": end.drift.kind if end.drift else None,
            "cao.drift.p_value": end.drift.p_value if end.drift else None,
            "cao.drift.nearest_task": end.drift.nearest_task if end.drift else None,
            "cao.start": end.start if end.baseline else None,
            "cao.strategy": json.dumps(strategy) if strategy else None,
            "cao.strategy.family": strategy.get("family") if strategy else None,
            "cao.attempt": trial.attempt if trial else None,
            "cao.accepted": trial.accepted if trial else None,
            "cao.reward.accuracy": reward.score if reward else None,
            "cao.reward.loss": reward.loss if reward else None,
            "cao.status": end.status or None,
        }
    )


def node_end(event: Event) -> NodeEnd:
    """Return what a node's ``end`` event says.

    Raises:
        InputError: it is of another version.
    """
    try:
        return NodeEnd.model_validate(event.get("data") or {}, extra="ignore")
    except ValidationError:
        raise _foreign(event) from None


def _call(event: Event, number: int, parent: str, now: int) -> Span:
    """Return the span of a call of a language model, which ended ``now``."""
    try:
        call = Call.model_validate(event.get("data") or {})
    except ValidationError:
        raise _foreign(event) from None
    host, port = _address(call.server)
    known = {
        "gen_ai.operation.name": call.operation,
        "gen_ai.provider.name": call.provider,
        "gen_ai.request.model": call.model,
        "gen_ai.request.choice.count": call.choices if call.choices != 1 else None,
        "gen_ai.request.max_tokens": call.max_tokens,
        "gen_ai.request.temperature": call.temperature,
        "gen_ai.request.top_p": call.top_p,
        "gen_ai.usage.input_tokens": call.input_tokens,
        "gen_ai.usage.output_tokens": call.output_tokens,
        "server.address": host,
        "server.port": port,
        "error.type": call.error or None,
    }
    start = now - round(call.seconds * NANO)
    name = f"{call.operation} {visible(call.model)}"
    return Span(f"{number}", parent, name, start, now, _stated(known), call.error, remote=bool(call.server))


def _address(server: str) -> tuple[str | None, int | None]:
    """Return host and port of an address, neither where it is none: earlier versions wrote ``::1`` without brackets."""
    try:
        address = urlsplit(server)
        return address.hostname, address.port
    except ValueError:
        return None, None


def _stated(known: Mapping[str, Value | None]) -> Attributes:
    shown = {name: visible(value) if isinstance(value, str) else value for name, value in known.items()}
    return {name: value for name, value in shown.items() if value is not None}


def _ended(span: Span, end: int, more: Attributes | None = None, error: str = "") -> Span:
    failed = {"error.type": error} if error else {}
    return replace(span, end=end, attributes={**span.attributes, **(more or {}), **failed}, error=error)


def _without(made: list[Span], span: Span) -> list[Span]:
    return [each for each in made if each.key != span.key]


def _latest(made: list[Span], visit: Span) -> int:
    """Return when something was last heard of a visit that has no end."""
    return max([visit.start, *(span.end or 0 for span in made if span.parent == visit.key)])


def time_of(event: Event) -> int:
    """Return when an event was written, in nanoseconds since the epoch.

    Raises:
        InputError: it does not say.
    """
    try:
        return round(datetime.fromisoformat(event.get("time", "")).timestamp() * 1000) * (NANO // 1000)
    except (TypeError, ValueError, OverflowError):
        raise _foreign(event) from None


def _foreign(event: Event) -> InputError:
    where = f"event {event.get('seq', '?')} of the trace"
    return InputError(f"{where}: damaged, or of another version; the version that wrote it reads it")
