"""Which runs there are, and the result of each in one line."""

import os
import shlex
from datetime import UTC, datetime
from pathlib import Path

from agent.record.commands import trace_command
from agent.record.reading import read_run
from cao.errors import InputError
from cao.types import ID_PATTERN, Record

DAMAGED = "damaged"
MARKS = ("run.json", "trace.jsonl")
"""A folder with one of these files is a run, and one whose ``config.json`` says which run it is."""


class RunSummary(Record):
    """One line of the list of runs; accuracies in [0, 1], losses in nats."""

    run_id: str
    status: str
    task: str | None = None
    model: str | None = None
    policy: str | None = None
    last_node: str | None = None
    attempts: int = 0
    reward_baseline: float | None = None
    reward_best: float | None = None
    loss_baseline: float | None = None
    loss_best: float | None = None
    test_base: float | None = None
    test_adapted: float | None = None
    test_p_value: float | None = None
    created: str | None = None
    problem: str | None = None


def list_runs(out: Path) -> list[RunSummary]:
    """Return every run below ``out``, the newest first; a damaged one is listed with what is wrong with it."""
    return sorted(
        (_summary(path) for path in run_folders(out)),
        key=lambda run: (run.created or "", run.run_id),
        reverse=True,
    )


def find_run(out: Path, run_id: str) -> Path:
    """Return the folder of one run.

    Args:
        out: the folder of runs.
        run_id: the run's id, or the beginning of it if no other begins so; or the folder's path, as shells complete it.

    Raises:
        InputError: not an id, unknown, ambiguous, or leading out of ``out``; the message lists ids that exist.
    """
    path = Path(os.path.normpath(run_id))
    if path.name != run_id:
        if path.parent.resolve() == out.resolve():
            run_id = path.name
        elif ID_PATTERN.fullmatch(path.name) and is_run(path):
            raise InputError(f"run {path.name} lies in {path.parent}; add --out {shlex.quote(str(path.parent))}")
    if not ID_PATTERN.fullmatch(run_id):
        raise InputError(f"{run_id!r} is no run id; {trace_command('list', out)} lists them")
    names = [path.name for path in run_folders(out)]
    matches = [run_id] if run_id in names else [name for name in names if name.startswith(run_id)]
    if len(matches) > 1:
        raise InputError(f"{run_id!r} could be {', '.join(sorted(matches)[:5])}; write more of it")
    if not matches:
        latest = ", ".join(run.run_id for run in list_runs(out)[:5])
        raise InputError(
            f"no run {run_id!r} in {out}; " + (f"the latest are {latest}" if latest else "there are none yet")
        )
    return out / matches[0]


def run_folders(out: Path) -> list[Path]:
    """Return the folders of runs below ``out``."""
    if not out.is_dir():
        return []
    root = out.resolve()
    return [
        path
        for path in out.iterdir()
        if ID_PATTERN.fullmatch(path.name)
        and path.resolve().parent == root  # a link must not lead elsewhere
        and is_run(path)
    ]


def is_run(path: Path) -> bool:
    """Return whether a folder is a run's, ended or not; models' folders and trainings' have a ``config.json``, too."""
    if any((path / mark).is_file() for mark in MARKS):
        return True
    config = path / "config.json"
    if not config.is_file():
        return False
    try:
        return '"run_id"' in config.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return True  # damaged, and listed as that


def _summary(path: Path) -> RunSummary:
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    try:
        run = read_run(path)
    except InputError as error:
        return RunSummary(run_id=path.name, status=DAMAGED, created=changed, problem=str(error))
    base, best, test = run.reward.baseline, run.reward.best, run.test
    return RunSummary(
        **run.model_dump(include={"run_id", "status", "task", "model", "policy"}),
        last_node=run.last_node,
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
