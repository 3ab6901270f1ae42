"""Reading run folders: which runs there are, what they found, and what happened in them.

A run folder is read as hostile input: it may come from an older version, be cut off by a kill, or be changed by hand.
So every key but the run's name may be missing, every type is checked, and nothing outside the folder is opened.
"""

import json
import math
import shlex
import statistics
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from agent.record.schema import GENERATED, RUNNING, UNFINISHED, RunRecord, RunSummary
from cao.configuration import explain
from cao.errors import InputError
from cao.types import ID_PATTERN

DAMAGED = "damaged"
MARKS = ("run.json", "config.json", "trace.jsonl")
"""A folder with one of these files is a run."""

LOCK = ".lock"
"""The file in a run's folder that the process at work holds."""

Z95 = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""


Shape = TypeVar("Shape", bound=BaseModel)


def list_runs(out: Path) -> list[RunSummary]:
    """Return every run below ``out``, the newest first; a damaged one is listed with what is wrong with it."""
    return sorted(
        (_summary(path) for path in _folders(out)),
        key=lambda run: (run.created or "", run.run_id),
        reverse=True,
    )


def find_run(out: Path, run_id: str) -> Path:
    """Return the folder of one run.

    Args:
        out: the folder of runs.
        run_id: the run's id, or the beginning of it if no other begins so.

    Raises:
        InputError: not an id, unknown, ambiguous, or leading out of ``out``; the message lists ids that exist.
    """
    if not ID_PATTERN.fullmatch(run_id):
        raise InputError(
            f"{run_id!r} is no run id; python -m agent.trace list --out {shlex.quote(str(out))} lists them"
        )
    names = [path.name for path in _folders(out)]
    matches = [run_id] if run_id in names else [name for name in names if name.startswith(run_id)]
    if len(matches) > 1:
        raise InputError(f"{run_id!r} could be {', '.join(sorted(matches)[:5])}; write more of it")
    if not matches:
        latest = ", ".join(run.run_id for run in list_runs(out)[:5])
        raise InputError(
            f"no run {run_id!r} in {out}; " + (f"the latest are {latest}" if latest else "there are none yet")
        )
    return out / matches[0]


def read_run(path: Path) -> RunRecord:
    """Read a run as far as it came.

    Args:
        path: the run's folder, as ``find_run`` returns it.

    Raises:
        InputError: a file in it is damaged.
    """
    file = path / "run.json"
    if file.exists():
        return _validated(RunRecord, {**_read_object(file), "run_id": path.name}, file)
    return _validated(RunRecord, _unfinished(path), path)


def at_work(path: Path) -> bool:
    """Return whether a process works on a run now.

    Args:
        path: the run's folder; nothing is made in it.
    """
    lock = path / LOCK
    if not lock.is_file() or lock.is_symlink():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that this user may only read
        return False


def read_trace(path: Path) -> list[dict[str, Any]]:
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
        lines = file.read_bytes().split(b"\n")  # not splitlines: U+2028 may stand inside a string
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    events: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        event = _event(line)
        if event is not None:
            events.append(event)
        elif number < len(lines):
            raise InputError(f"{file}:{number}: not an event; the trace is damaged")
    return events


def visits(events: list[dict[str, Any]]) -> list[str]:
    """Return the nodes that a run went through, in order; the last may have begun without ending."""
    done = [event["node"] for event in events if event["event"] == "end"]
    flow = [event for event in events if event["event"] in ("start", "end")]
    return [*done, flow[-1]["node"]] if flow and flow[-1]["event"] == "start" else done


def paired_change(path: Path, before: str, after: str, key: str) -> tuple[float, float, float] | None:
    """Return the mean paired change of one number over the questions, with its normal 95 % interval.

    Args:
        path: the run's folder.
        before: name of the first item file below ``items/``, without its ending.
        after: name of the second one.
        key: ``loss`` (nats) or ``correct`` (0 or 1).

    Returns:
        (mean, low, high) of after minus before, or None where the items are not there or not usable.
    """
    first, second = (_item_values(path / "items" / f"{name}.jsonl", key) for name in (before, after))
    changes = [second[item] - first[item] for item in first if item in second]
    if len(changes) < 2:
        return None
    mean = statistics.fmean(changes)
    half = Z95 * statistics.stdev(changes) / math.sqrt(len(changes))
    return mean, mean - half, mean + half


def _folders(out: Path) -> list[Path]:
    if not out.is_dir():
        return []
    root = out.resolve()
    return [
        path
        for path in out.iterdir()
        if ID_PATTERN.fullmatch(path.name)
        and path.resolve().parent == root  # a link must not lead elsewhere
        and any((path / mark).is_file() for mark in MARKS)
    ]


def _summary(path: Path) -> RunSummary:
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    try:
        run = read_run(path)
    except InputError as error:
        return RunSummary(run_id=path.name, status=DAMAGED, created=changed, problem=str(error))
    base, best, test = run.reward.baseline, run.reward.best, run.test
    return RunSummary(
        **run.model_dump(include={"run_id", "status", "task", "model", "policy", "last_node"}),
        attempts=len(run.trials),
        reward_baseline=base.score if base else None,
        reward_best=best.score if best else None,
        loss_baseline=base.loss if base else None,
        loss_best=best.loss if best else None,
        test_base=test.baseline.accuracy if test else None,
        test_adapted=test.adapted.accuracy if test else None,
        test_p_value=test.p_value if test else None,
        created=run.created or changed,
    )


def _unfinished(path: Path) -> dict[str, Any]:
    """Return what configuration and trace tell of a run that has no run.json yet."""
    file = path / "config.json"
    header = _read_object(file) if file.exists() else {}
    config = header.get("config", header)
    config = config if isinstance(config, dict) else {}
    known = {key: config.get(key) for key in ("task", "model", "policy", "describer", "seed")}
    events = read_trace(path)
    trials: dict[Any, Any] = {}
    timing: Counter[str] = Counter()
    found: dict[str, Any] = {}
    for event in events:
        if event["event"] != "end":
            continue
        data = event.get("data") or {}
        timing[event["node"]] += event.get("seconds", 0.0)
        found |= {key: data[key] for key in ("drift", "adapters", "test") if key in data}
        found |= {"reason": data["ended"]} if isinstance(data.get("ended"), str) else {}
        if "baseline" in data:
            found["reward"] = _start_rewards(data)
        if isinstance(data.get("trial"), dict):  # keyed by attempt: a resumed node reports its attempt again
            attempt = data["trial"].get("attempt")
            trials[attempt if isinstance(attempt, int) else len(trials)] = data["trial"]
        if isinstance(data.get("context"), dict):
            found["context"] = data["context"].get("text")
    return {
        **known,
        **found,
        "run_id": path.name,
        "status": RUNNING if at_work(path) else UNFINISHED,
        "created": header.get("created") or (events[0].get("time") if events else None),
        "last_node": events[-1]["node"] if events else None,
        "trials": list(trials.values()),
        "timing_s": dict(timing),
        "seconds": sum(timing.values()),
        "config": config,
    }


def _start_rewards(data: dict[str, Any]) -> dict[str, Any]:
    """Return the rewards as run.json states them, from the event that measured the start."""
    starts = data.get("starts") if isinstance(data.get("starts"), dict) else {}
    known = {name: start for name, start in (starts or {}).items() if name in GENERATED and isinstance(start, dict)}
    return {
        "baseline": data["baseline"],
        **{name: start.get("reward") for name, start in known.items()},
        "start": data.get("start"),
        "comparisons": {name: start.get("comparison") for name, start in known.items()},
        "dropped_after": {name: start.get("dropped_after") for name, start in known.items()},
    }


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line.decode("utf-8", "replace"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("data", {}), dict | None):
        return None
    named = isinstance(event.get("node"), str) and isinstance(event.get("event"), str)
    return event if named and _is_number(event.get("seconds", 0.0)) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e15  # larger integers overflow in float arithmetic


def _item_values(file: Path, key: str) -> dict[str, float]:
    values: dict[str, float] = {}
    try:
        for line in file.read_bytes().split(b"\n"):
            item = json.loads(line, parse_constant=_refuse) if line.strip() else {}
            if isinstance(item, dict) and isinstance(item.get("id"), str) and _is_number(item.get(key)):
                values[item["id"]] = float(item[key])
    except (OSError, ValueError, RecursionError):
        return {}
    return values


def _read_object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: damaged ({type(error).__name__}); it is no JSON object") from None
    if not isinstance(value, dict):
        raise InputError(f"{file}: damaged; it is no JSON object")
    return value


def _validated(shape: type[Shape], value: dict[str, Any], file: Path) -> Shape:
    try:
        return shape.model_validate({key: entry for key, entry in value.items() if entry is not None})
    except ValidationError as error:
        raise InputError(f"{file}: damaged; {explain(error)}") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
