"""The trace of a run: its events, one a line of ``trace.jsonl``, read as hostile input."""

import json
from pathlib import Path
from typing import NoReturn, Required, TypedDict, TypeGuard

from pydantic import JsonValue

from agent.record.regular import read_regular
from cao.errors import InputError
from cao.files import opened_line


class Event(TypedDict, total=False):
    """A line of the trace.

    Attributes:
        seq: its number.
        time: ISO-8601 UTC, to the millisecond; to the second in older versions.
        node: where it happened.
        event: ``start``, ``end``, ``call`` of a language model, ``resume`` or ``error``.
        seconds: how long the node took, at an end.
        data: what came of it; ``agent.record.events`` has its shape, and ``cao.inference.calls`` a call's.
    """

    seq: int
    time: str
    node: Required[str]
    event: Required[str]
    seconds: float
    data: dict[str, JsonValue] | None


def read_trace(path: Path) -> list[Event]:
    """Read the events of a run; a last line that a kill cut off is left out.

    Args:
        path: the run's folder.

    Returns:
        The events as written: ``seq``, ``time``, ``node``, ``event``, ``data`` and, at an end, ``seconds``.

    Raises:
        InputError: a line before the last is damaged.
    """
    file = path / "trace.jsonl"
    try:
        lines = read_regular(file).split(b"\n")  # not splitlines: U+2028 may stand inside a string
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    events: list[Event] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        event = _event(line)
        if event is not None:
            events.append(event)
        elif number < len(lines):
            raise InputError(f"{file}:{number}: not an event; the trace is damaged")
    return events


def visits(events: list[Event]) -> list[str]:
    """Return the nodes that a run went through, in order; the last may have begun without ending."""
    done = [event["node"] for event in events if event["event"] == "end"]
    flow = [event for event in events if event["event"] in ("start", "end")]
    return [*done, flow[-1]["node"]] if flow and flow[-1]["event"] == "start" else done


def _event(line: bytes) -> Event | None:
    try:
        event: Event = json.loads(opened_line(line.decode("utf-8", "replace")), parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("data", {}), dict | None):
        return None
    named = isinstance(event.get("node"), str) and isinstance(event.get("event"), str)
    return event if named and is_number(event.get("seconds", 0.0)) else None


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a decoded value is a number that can be calculated with."""
    return isinstance(value, int | float) and abs(value) < 1e15  # larger integers overflow in float arithmetic


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which Python's parser of JSON takes for numbers."""
    raise ValueError(f"{name} is not JSON")
