"""The folder of a run: its lock, its trace, its checkpoints. Everything a run writes lies inside it."""

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from filelock import FileLock, Timeout
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple, get_checkpoint_id
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import StateSnapshot
from pydantic import JsonValue

from agent.loop.state import Context, State, load_state
from agent.record.page.drift import PICTURE_FILE
from agent.record.reading import LOCK
from agent.record.terminal import View
from agent.record.trace_file import read_trace
from cao.errors import CaoError, InputError, UnavailableError
from cao.files import UNFINISHED, no_room, room_for, room_left, sealed_line, usual_modes, whole_lines
from cao.types import ID_PATTERN

Graph = CompiledStateGraph[State, Context, State, State]

PATIENCE_S = 30.0
"""How long another program's lock on the checkpoints is waited for."""
LEFT_BEHIND_S = 3600.0
"""Age from which a folder of a run that was never begun is nobody's."""
_UNBEGUN = ".unbegun."
_HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SHUT = {
    *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM),
    sqlite3.SQLITE_AUTH,
}


@dataclass
class Recorder:
    """Appends events to ``trace.jsonl``, shows them, and adds up the time that nodes were busy.

    ``spent_s`` is what the steps took that earlier processes of the run ended.
    """

    folder: Path
    view: View
    seq: int = 0
    busy_s: float = 0.0
    spent_s: float = 0.0
    _stream: TextIO = field(init=False, repr=False)

    def __post_init__(self) -> None:
        path = self.folder / "trace.jsonl"
        events = read_trace(self.folder)
        whole_lines(path)  # what a kill left of the last one is taken off
        self.seq = len(events)
        self.spent_s = sum(event.get("seconds", 0.0) for event in events)
        self._stream = path.open("a", encoding="utf-8")

    def __call__(self, node: str, event: str, data: dict[str, JsonValue], seconds: float | None = None) -> None:
        """Write one event."""
        line = {
            "seq": self.seq,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "node": node,
            "event": event,
        }
        if seconds is not None:
            line["seconds"] = round(seconds, 4)
            self.busy_s += seconds
        text = sealed_line(json.dumps({**line, "data": data}, ensure_ascii=False, allow_nan=False)) + "\n"
        with room_for(self.folder / "trace.jsonl", len(text)):
            self._stream.write(text)
            self._stream.flush()
        self.seq += 1
        self.view.event(node, event, data, seconds)


@contextmanager
def new_run_folder(out: Path, task: str) -> Iterator[tuple[str, Path]]:
    """Make the folder of a new run in one step: it has its name once all that belongs into it has been written.

    Args:
        out: the folder of runs.
        task: the task's name.

    Yields:
        The run's name, which sorts by time and matches the id pattern, and the folder to fill.

    Raises:
        InputError: no folder can be made there.
        NoRoomError: the disk has no room for it.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    name = f"{task[:36]}-{stamp}-{os.urandom(2).hex()}"
    assert ID_PATTERN.match(name), name
    try:
        out.mkdir(parents=True, exist_ok=True)
        _sweep_unbegun(out)
        temporary = Path(tempfile.mkdtemp(dir=out, prefix=_UNBEGUN))
    except OSError as error:
        full = no_room(error, out / name)
        refusal = f"{out / name}: cannot be made ({error.strerror}); choose another --out"
        raise full or InputError(refusal) from None
    try:
        yield name, temporary
        usual_modes(temporary)
        os.replace(temporary, out / name)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _sweep_unbegun(out: Path) -> None:
    """Remove what killed commands left of runs that never began."""
    for path in out.glob(f"{_UNBEGUN}*"):
        with suppress(FileNotFoundError):  # a run that begins at this moment has its name now
            if time.time() - path.stat().st_mtime > LEFT_BEHIND_S:
                shutil.rmtree(path, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder, whose lock is held; folders in it with a lock of their own stay."""
    for place, folders, files in os.walk(folder):
        if LOCK in files and place != str(folder):
            folders.clear()
        for name in [name for name in folders if name.startswith(".") and name.endswith(UNFINISHED)]:
            folders.remove(name)
            shutil.rmtree(Path(place, name), ignore_errors=True)


@contextmanager
def locked(folder: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold the run's lock, so that no second process works on it.

    With ``alone`` nobody else writes below the folder, and what killed writers left there is removed.

    Raises:
        InputError: another process holds it.
    """
    try:
        with FileLock(folder / LOCK, timeout=0.5):  # one who looks whether it is held has it for a moment
            if alone:
                sweep(folder)
            yield
    except Timeout:
        raise InputError(at_work_elsewhere(folder)) from None


def at_work_elsewhere(folder: Path) -> str:
    """Say that another process holds a run's lock."""
    return f"run {folder.name} is at work in another process; wait until it has ended"


@contextmanager
def checkpointer(folder: Path) -> Iterator[SqliteSaver]:
    """Open the run's checkpoints; rows that would run code on load are refused, and rows that were changed.

    Raises:
        InputError: the file is damaged.
        UnavailableError: another program holds it, it cannot be opened or written, or there is no room for it.
    """
    path = folder / "checkpoints.sqlite"
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE_S, check_same_thread=False)) as connection:
            saver = InOrder(
                connection, serde=EncryptedSerializer(Seal(), JsonPlusSerializer(allowed_msgpack_modules=None))
            )
            saver.setup()
            yield saver
    except sqlite3.Error as error:
        raise _checkpoints_failed(path, error) from None


def read_state(graph: Graph, thread: RunnableConfig, folder: Path) -> StateSnapshot:
    """Return the run's last checkpoint."""
    with _refusing_damage(folder):
        snapshot = graph.get_state(thread)
        if snapshot.created_at and not isinstance(snapshot.values, dict):
            raise TypeError("no state in it")
        return snapshot


def read_history(graph: Graph, thread: RunnableConfig, folder: Path) -> list[StateSnapshot]:
    """Return the run's checkpoints, oldest first."""
    with _refusing_damage(folder):
        return list(graph.get_state_history(thread))[::-1]


def state_at(snapshot: StateSnapshot, folder: Path) -> State:
    """Return the state that a checkpoint of the run holds."""
    with _refusing_damage(folder):
        return load_state(snapshot.values)


@contextmanager
def _refusing_damage(folder: Path) -> Iterator[None]:
    """Turn what a changed checkpoint makes the library raise into one line; it runs no code on load."""
    try:
        yield
    except sqlite3.DatabaseError:
        raise  # the checkpointer words it
    except Exception as error:  # noqa: BLE001  (there is no common type)
        reason = type(error).__name__
        raise InputError(f"{folder / 'checkpoints.sqlite'}: damaged ({reason}); start a new run") from None


class InOrder(SqliteSaver):
    """Checkpoints in the order in which they were written: the library goes by names that hold the time of writing.

    A clock that went back between two processes would make it go on from an older one.
    """

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that is named, or the last one."""
        if get_checkpoint_id(config):
            return super().get_tuple(config)
        return next(self.list(config, limit=1), None)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, object] | None = None,  # noqa: A002  (the library's name)
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield the checkpoints, the last one first."""
        with self.cursor(transaction=False) as rows:
            rows.execute("select checkpoint_id, rowid from checkpoints")
            place = dict(rows.fetchall())
        every = super().list(config, filter=filter, before=before)
        last_first = sorted(every, key=lambda one: place[one.config["configurable"]["checkpoint_id"]], reverse=True)
        yield from last_first[:limit]


class Seal:
    """Puts a row's hash before it, in the place of a cipher: the library's format has none."""

    SIZE = hashlib.sha256().digest_size

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """Return the kind of seal, and the row behind its hash."""
        return "sha256", hashlib.sha256(plaintext).digest() + plaintext

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """Return the row.

        Raises:
            ValueError: it is not what was written.
        """
        seal, row = ciphertext[: self.SIZE], ciphertext[self.SIZE :]
        if ciphername != "sha256" or hashlib.sha256(row).digest() != seal:
            raise ValueError("a row is not what was written")
        return row


def _checkpoints_failed(path: Path, error: sqlite3.Error) -> CaoError:
    """Return what is wrong with the checkpoints, by the library's code."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without what is special about it
    if full := no_room(error, path):
        return full
    if code == sqlite3.SQLITE_IOERR:
        return UnavailableError(f"{path}: {error}; {room_left(path)}; look at the disk, its quota and ulimit -f")
    if code in _HELD:
        return UnavailableError(f"{path}: another program holds it, for {PATIENCE_S:.0f} s so far; close that program")
    if code in _SHUT:
        return UnavailableError(f"{path}: cannot be read or written ({error}); it and its folder must be writable")
    return InputError(f"{path}: damaged ({error}); start a new run")


def carry_over(source: Path, target: Path, adapters: Iterable[str], *, items: bool) -> None:
    """Copy to a forked run what its state refers to, of what lies in its folder, and what is drawn of the drift."""
    named, there = {Path(path).name for path in adapters}, {path.name for path in (source / "adapters").glob("*")}
    for name, left in {"adapters": there - named, "items": set[str]()}.items():
        if (source / name).is_dir() and (items if name == "items" else there & named):
            with room_for(target / name):
                shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns(".*", *left))
    if (source / PICTURE_FILE).is_file() and not (source / PICTURE_FILE).is_symlink():
        with room_for(target / PICTURE_FILE):
            shutil.copyfile(source / PICTURE_FILE, target / PICTURE_FILE)
