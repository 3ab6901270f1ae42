"""Reading one run's folder: its run.json, or what configuration and trace tell where it has none yet.

A run folder is read as hostile input: it may come from an older version, be cut off by a kill, or be changed by hand.
So every type is checked, and nothing outside the folder is opened.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, JsonValue, ValidationError

from agent.record.commands import resume_command
from agent.record.events import NodeEnd
from agent.record.measurements import GENERATED, Rewards
from agent.record.regular import read_regular
from agent.record.schema import RUNNING, SCHEMA_VERSION, UNFINISHED, Run, RunRecord
from agent.record.trace_file import read_trace, refuse_constant
from agent.record.wording import one_line
from cao.encodings import visible
from cao.errors import InputError
from cao.files import check_sums, opened
from cao.types import Trial

LOCK = ".lock"
"""The file in a run's folder that the process at work holds."""

OLD = "; it has no schema_version: it may be of a version too old to be read, so do the run again"
"""What to do about a run.json from before the key that does not fit."""
OLD_TRACE = "; if another version of the project wrote it, that version reads it; else do the run again"

Shape = TypeVar("Shape", bound=BaseModel)


def read_run(path: Path) -> Run:
    """Read a run as far as it came.

    Args:
        path: the run's folder, as ``find_run`` returns it.

    Raises:
        InputError: a file in it is damaged, or of a version that this one does not read.
    """
    file = path / "run.json"
    if not file.exists():
        return _unfinished(path)
    check_sums(path)
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
    if not file.exists():
        raise InputError(f"run {path.name} has not ended; go on with: {resume_command(path.name, path.parent)}")
    check_sums(path)
    try:
        value = _read_object(file)
        if (other := value.get("run_id")) == path.name:
            return _recorded(value, file)
    except InputError as error:
        raise InputError(f"{error}; delete it and resume to have it written again") from None
    raise InputError(f"{path}: holds run {visible(str(other))[:80]}; give the folder that name")


def _recorded(value: dict[str, JsonValue], file: Path) -> RunRecord:
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


def _unfinished(path: Path) -> Run:
    """Return what configuration and trace tell of a run that has no run.json yet."""
    file = path / "config.json"
    header = _read_object(file) if file.exists() else {}
    stored = header.get("config", header)
    config = stored if isinstance(stored, dict) else {}
    events = read_trace(path)
    trials: dict[int, Trial] = {}
    timing: defaultdict[str, float] = defaultdict(float)
    fields: dict[str, object] = {}
    for event in events:
        if event["event"] != "end":
            continue
        end = _validated(NodeEnd, event.get("data") or {}, path / "trace.jsonl", OLD_TRACE)
        timing[event["node"]] += event.get("seconds", 0.0)
        fields |= {key: getattr(end, key) for key in ("drift", "adapters", "test") if key in end.model_fields_set}
        fields |= {"reason": end.ended} if end.ended else {}
        fields |= {"context": end.context.text} if end.context else {}
        if end.baseline:
            fields["reward"] = _start_rewards(end)
        if end.trial:  # keyed by attempt: a resumed node reports its attempt again
            trials[end.trial.attempt] = end.trial
    value = {
        **{key: config.get(key) for key in ("task", "model", "policy", "describer", "seed")},
        **fields,
        "run_id": path.name,
        "status": RUNNING if at_work(path) else UNFINISHED,
        "created": header.get("created") or (events[0].get("time") if events else None),
        "last_node": events[-1]["node"] if events else None,
        "trials": tuple(trials.values()),
        "timing_s": dict(timing),
        "seconds": sum(timing.values()),
        "config": config,
    }
    return _validated(Run, value, path, "")


def _start_rewards(end: NodeEnd) -> Rewards:
    """Return the rewards as run.json states them, from the event that measured the start."""
    starts = {name: start for name, start in end.starts.items() if start}
    generated, aligned = (starts[name]["reward"] if name in starts else None for name in GENERATED)
    return Rewards(
        baseline=end.baseline,
        generated=generated,
        aligned=aligned,
        start=end.start,
        comparisons={name: start["comparison"] for name, start in starts.items()},
        dropped_after={name: start["dropped_after"] for name, start in starts.items()},
    )


def _read_object(file: Path) -> dict[str, JsonValue]:
    try:
        value = json.loads(opened(read_regular(file)), parse_constant=refuse_constant)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: damaged ({type(error).__name__}); it is no JSON object") from None
    if not isinstance(value, dict):
        raise InputError(f"{file}: damaged; it is no JSON object")
    return value


def _validated(shape: type[Shape], value: Mapping[str, object], file: Path, hint: str) -> Shape:
    """Return what a file states; but for a versioned run.json, keys that only other versions know are left out."""
    try:
        if shape is RunRecord:
            return shape.model_validate(value)
        known = {key: entry for key, entry in value.items() if entry is not None}
        return shape.model_validate(known, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = one_line(".".join(str(part) for part in first["loc"]), 80)
        raise InputError(f"{file}: damaged; {where}: {first['msg']}{hint}") from None
