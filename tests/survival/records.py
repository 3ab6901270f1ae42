"""What a run left, read back: its record, and the files that must be those of an undisturbed run."""

import json
from pathlib import Path
from typing import Any

from cao.files import SUMS, sha256_file
from tests.agent.run.tiny_runs import result

CHANGING = ("config.json", "run.json", "report.html", "trace.jsonl", "checkpoints.sqlite", ".lock", SUMS)
"""Files that hold times and names of runs."""


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return record


def kept_of(folder: Path) -> dict[str, str]:
    """Return the hash of every file that two runs with one seed must agree on."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in CHANGING]
    return {str(path.relative_to(folder)): sha256_file(path) for path in sorted(files)}


def same(folder: Path, whole: Any) -> bool:
    """Return whether a run ended as the undisturbed one, in what it says and in what it keeps."""
    return result(record_of(folder)) == result(whole.record) and kept_of(folder) == kept_of(whole.folder)
