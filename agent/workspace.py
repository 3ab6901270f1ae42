"""The folder of a run: its lock, its trace, its checkpoints. Everything a run writes lies inside it."""

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from agent.console import View
from agent.runs import read_trace
from cao.errors import InputError
from cao.types import ID_PATTERN


@dataclass
class Recorder:
    """Appends events to ``trace.jsonl``, shows them, and adds up the time that nodes were busy.

    ``spent_s`` is what earlier processes of the run took.
    """

    folder: Path
    view: View
    seq: int = 0
    busy_s: float = 0.0
    spent_s: float = 0.0
    _stream: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        path = self.folder / "trace.jsonl"
        events = read_trace(self.folder) if path.exists() else []
        kept = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") != kept:
            path.write_text(kept, encoding="utf-8")  # a kill cut the last line off
        self.seq = len(events)
        self.spent_s = sum(event.get("seconds", 0.0) for event in events)
        self._stream = path.open("a", encoding="utf-8")

    def __call__(self, node: str, event: str, data: dict[str, Any], seconds: float | None = None) -> None:
        """Write one event."""
        line = {
            "seq": self.seq,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "node": node,
            "event": event,
        }
        if seconds is not None:
            line["seconds"] = round(seconds, 4)
            self.busy_s += seconds
        self._stream.write(json.dumps({**line, "data": data}, ensure_ascii=False, allow_nan=False) + "\n")
        self._stream.flush()
        self.seq += 1
        self.view.event(node, event, data, seconds)


def new_run_folder(out: Path, task: str) -> Path:
    """Make and return the folder of a new run; its name sorts by time and matches the id pattern."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    name = f"{task[:36]}-{stamp}-{os.urandom(2).hex()}"
    assert ID_PATTERN.match(name), name
    folder = out / name
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from None
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's lock, so that no second process works on it.

    Raises:
        InputError: another process holds it.
    """
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise InputError(f"run {folder.name} is at work in another process") from None


@contextmanager
def checkpointer(folder: Path) -> Iterator[SqliteSaver]:
    """Open the run's checkpoints; rows that would run code on load are refused.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / "checkpoints.sqlite"
    try:
        with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
            saver = SqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
            saver.setup()
            yield saver
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path}: damaged ({error}); start a new run") from None


def carry_over(source: Path, target: Path) -> None:
    """Copy to a forked run what its state refers to: the conditioning tensor, the items and the adapters."""
    for name in ("conditioning.safetensors", "items", "adapters"):
        path = source / name
        if path.is_dir():
            shutil.copytree(path, target / name)
        elif path.is_file():
            shutil.copy2(path, target / name)
