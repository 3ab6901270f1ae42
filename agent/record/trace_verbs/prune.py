"""Removing runs, or what is large in them: shown first, done with ``--yes``, and nothing but run folders is touched.

A run folder is a folder right below the folder of runs, no link, whose ``config.json`` states the folder's name. What a
process works on is left alone.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from filelock import FileLock, Timeout
from pydantic import Field
from rich.text import Text

from agent.record.answering import small_file
from agent.record.reading import LOCK, read_run
from agent.record.runs import DAMAGED, RunSummary, list_runs
from agent.record.schema import RUNNING, UNFINISHED
from agent.record.trace_verbs.printing import write_object
from agent.record.trace_verbs.view import empty_table, open_console
from agent.record.wording import count
from cao.encodings import visible
from cao.errors import InputError
from cao.files import summed_names
from cao.types import Record

DELETING = ".deleting."
"""Before the name of a folder that is being removed: a kill leaves no half of a run under the run's own name."""
CHECKPOINTS = "checkpoints.sqlite*"


class Selection(Record):
    """Which runs are removed: those that everything given here fits.

    Attributes:
        keep: so many of the newest stay, whatever else fits them.
        older_than: only those that began more days ago.
        unfinished: only those without an outcome, damaged ones among them.
        parts: not the runs, but what only resuming and replaying read: checkpoints and adapters that are not served.
    """

    keep: Annotated[int, Field(ge=0)] | None = None
    older_than: Annotated[float, Field(ge=0, le=1e6)] | None = None
    unfinished: bool = False
    parts: bool = False


class Pruned(Record):
    """What is removed of one run, relative to the folder of runs, and its size."""

    run_id: str
    status: str
    created: str | None
    paths: tuple[str, ...]
    bytes: int


def select(out: Path, asked: Selection, now: datetime) -> list[Pruned]:
    """Return what would be removed, the newest run first.

    Args:
        out: the folder of runs.
        asked: which of them.
        now: what ages are counted from, UTC.

    Raises:
        InputError: nothing says which runs.
    """
    if asked == Selection(parts=asked.parts):
        raise InputError("which runs? give --keep N, --older-than DAYS or --unfinished, or several of them")
    found = []
    runs = [run for run in list_runs(out) if is_run_folder(out / run.run_id)]
    for run in runs[asked.keep or 0 :]:
        path = out / run.run_id
        if run.status == RUNNING or not _fits(run, asked, now):
            continue
        paths = _parts(path) if asked.parts else [path]
        if paths:
            size = sum(map(_size, paths))
            names = tuple(str(each.relative_to(out)) for each in paths)
            found.append(Pruned(run_id=run.run_id, status=run.status, created=run.created, paths=names, bytes=size))
    return found


def _fits(run: RunSummary, asked: Selection, now: datetime) -> bool:
    if asked.unfinished and run.status not in (UNFINISHED, DAMAGED):
        return False
    if asked.older_than is None:
        return True
    try:
        began = datetime.fromisoformat(run.created or "")
    except ValueError:
        return False
    return now - (began if began.tzinfo else began.replace(tzinfo=UTC)) > timedelta(days=asked.older_than)


def is_run_folder(path: Path) -> bool:
    """Return whether a folder is a run's: no link, and its ``config.json``, no link either, states its name."""
    header = path / "config.json"
    if path.is_symlink() or not path.is_dir() or header.is_symlink():
        return False
    try:
        stored = json.loads(small_file(header))
    except (InputError, ValueError, RecursionError):
        return False
    return isinstance(stored, dict) and stored.get("run_id") == path.name


def _parts(path: Path) -> list[Path]:
    """Return what of a finished run only resuming and replaying read; what its hashes list stays, for it is checked."""
    try:
        run = read_run(path)
    except InputError:
        return []
    if run.status in (UNFINISHED, RUNNING):
        return []
    if run.adopted is None and run.config.get("start_adapter"):
        return sorted(path.glob(CHECKPOINTS))  # the adapter that the deployed model carries serves
    together = run.adopted.together if run.adopted else None
    stays = {*(together.adapters if together else ()), together.routes if together else None, *summed_names(path)}
    folder = path / "adapters"
    gone = [] if folder.is_symlink() else [each for each in folder.glob("*") if f"adapters/{each.name}" not in stays]
    return [*sorted(path.glob(CHECKPOINTS)), *sorted(gone)]


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; links count as themselves."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(_size(each) for each in path.iterdir())


def remove(out: Path, pruned: Pruned) -> bool:
    """Remove what was selected of one run; return False where a process took it up meanwhile.

    Args:
        out: the folder of runs.
        pruned: as ``select`` returned it.
    """
    path = out / pruned.run_id
    if not is_run_folder(path):
        return False
    with _held(path) as ours:
        if not ours:
            return False
        for name in pruned.paths:
            each = out / name
            if each == path:
                each = path.rename(out / f"{DELETING}{path.name}")
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink(missing_ok=True)
    return True


def _sweep(out: Path) -> None:
    """Remove what killed removals left."""
    for path in out.glob(f"{DELETING}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold a run's lock; yield whether that was possible."""
    lock = path / LOCK
    if lock.is_symlink():
        yield False
        return
    held = FileLock(lock, timeout=0)
    try:
        held.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        held.release()


def prune(out: Path, asked: Selection, *, yes: bool, as_json: bool) -> int:
    """Show what would be removed, and remove it where that was confirmed.

    Args:
        out: the folder of runs.
        asked: which of them.
        yes: whether to remove it.
        as_json: print an object.
    """
    chosen = select(out, asked, datetime.now(UTC))
    if yes:
        _sweep(out)
    gone = [each for each in chosen if yes and remove(out, each)]
    total = sum(each.bytes for each in (gone if yes else chosen))
    if as_json:
        runs = [{**each.model_dump(mode="json"), "removed": each in gone} for each in chosen]
        return write_object({"removed": yes, "bytes": total, "runs": runs})
    console = open_console()
    if chosen:
        table = empty_table("!run", "!status", ">MB", "what")
        for each in chosen:
            what = "all of it" if each.paths == (each.run_id,) else ", ".join(map(os.path.basename, each.paths))
            left = "" if not yes or each in gone else " (left: a process works on it)"
            row = (each.run_id, each.status, f"{each.bytes / 1e6:.1f}", what + left)
            table.add_row(*(Text(visible(cell)) for cell in row))
        console.print(table)
    done = "removed" if yes else f"would be removed; --yes removes {'it' if len(chosen) == 1 else 'them'}"
    said = f"{count(len(gone if yes else chosen), 'run')}, {total / 1e6:.1f} MB: {done}"
    console.print(Text(said if chosen else "nothing is to be removed"))
    return 0
