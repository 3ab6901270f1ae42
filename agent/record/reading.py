"""Reading one run's folder: its run.json, or what configuration and trace tell where it has none yet.

A run folder is read as hostile input: it may come from an older version, be cut off by a kill, or be changed by hand.
So every type is checked, and nothing outside the folder is opened.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import ValidationError

from agent.record.schema import GENERATED, RUNNING, SCHEMA_VERSION, UNFINISHED, Run, RunRecord
from agent.record.trace_file import read_trace, refuse_constant
from agent.record.wording import one_line
from cao.errors import InputError

LOCK = ".lock"
"""The file in a run's folder that the process at work holds."""

OLD = "; it has no schema_version: it may be of a version too old to be read, so do the run again"
"""What to do about a run.json from before the key that does not fit."""

Shape = TypeVar("Shape", bound=Run)


def read_run(path: Path) -> Run:
    """Read a run as far as it came.

    Args:
        path: the run's folder, as ``find_run`` returns it.

    Raises:
        InputError: a file in it is damaged, or of a version that this one does not read.
    """
    file = path / "run.json"
    if not file.exists():
        return _validated(Run, _unfinished(path), path, "")
    value = {**_read_object(file), "run_id": path.name}
    if value.get("schema_version") is None:
        return _validated(Run, value, file, OLD)
    return _recorded(value, file)


def read_record(path: Path) -> RunRecord:
    """Read the run.json of a finished run, written by this version of its schema.

    Args:
        path: the run's folder.

    Raises:
        InputError: it is damaged, another run's, or of another version.
    """
    file = path / "run.json"
    try:
        value = _read_object(file)
        if value.get("run_id") != path.name:
            raise InputError(f"{file}: damaged; it is another run's")
        return _recorded(value, file)
    except InputError as error:
        raise InputError(f"{error}; delete it and resume to have it written again") from None


def _recorded(value: dict[str, Any], file: Path) -> RunRecord:
    version = value.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"{file}: has schema_version {version}, and this version reads up to {SCHEMA_VERSION}; "
            "read it with the version that wrote it"
        )
    return _validated(RunRecord, value, file, "")


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
        "start": data.get("start", "base"),
        "comparisons": {name: start.get("comparison") for name, start in known.items()},
        "dropped_after": {name: start.get("dropped_after") for name, start in known.items()},
    }


def _read_object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse_constant)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: damaged ({type(error).__name__}); it is no JSON object") from None
    if not isinstance(value, dict):
        raise InputError(f"{file}: damaged; it is no JSON object")
    return value


def _validated(shape: type[Shape], value: dict[str, Any], file: Path, hint: str) -> Shape:
    """Return a run; what only other versions know is left out where the value is not of a versioned file."""
    try:
        if shape is RunRecord:
            return shape.model_validate(value)
        known = {key: entry for key, entry in value.items() if entry is not None}
        return shape.model_validate(known, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = one_line(".".join(str(part) for part in first["loc"]), 80)
        raise InputError(f"{file}: damaged; {where}: {first['msg']}{hint}") from None
