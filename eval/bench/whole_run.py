"""``run``: what a default run costs here, and where its time goes."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cao.errors import CaoError
from eval.bench.measure import machine


def help_seconds(repetitions: int) -> list[float]:
    """Return the wall-clock seconds of ``python -m agent.run --help``."""
    seconds = []
    for _ in range(repetitions):
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "agent.run", "--help"], check=True, capture_output=True)
        seconds.append(time.monotonic() - started)
    return seconds


def one_run(arguments: list[str], out: Path) -> dict[str, Any]:
    """Run ``agent.run`` in a process of its own and return its record with the wall-clock time.

    Raises:
        CaoError: the run failed.
    """
    command = [sys.executable, "-m", "agent.run", "--json", "--out", str(out), *arguments]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    wall = time.monotonic() - started
    if done.returncode:
        raise CaoError(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}")
    record: dict[str, Any] = json.loads(done.stdout)
    return {**record, "wall_s": wall}


def bench(arguments: list[str], repetitions: int) -> dict[str, Any]:
    """Measure ``--help`` and whole runs.

    Args:
        arguments: for ``agent.run``.
        repetitions: whole runs; ``--help`` is timed five times as often.
    """
    described = machine()
    helps = help_seconds(5 * repetitions)
    with tempfile.TemporaryDirectory() as folder:
        records = [one_run(arguments, Path(folder)) for _ in range(repetitions)]
    walls = [record["wall_s"] for record in records]
    last = records[-1]
    return {
        "bench": "run",
        "machine": described,
        "command": f"python -m agent.run {' '.join(arguments)}",
        "repetitions": repetitions,
        "help_s": _spread(helps),
        "run_s": _spread(walls),
        "peak_memory_gb": max(record["peak_memory_mb"] for record in records) / 1024,
        "overhead_share": max(record["overhead_share"] for record in records),
        "attempts": last["attempts"],
        "split": {name: round(seconds / last["wall_s"], 4) for name, seconds in last["timing_s"].items()},
        "start_up_share": round(1 - last["seconds"] / last["wall_s"], 4),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures in words."""
    found = []
    for key, label in (("help_s", "--help"), ("run_s", "whole run")):
        value = result[key]
        found.append((label, f"{value['median']:.2f} s median ({value['min']:.2f} – {value['max']:.2f})"))
    parts = sorted(result["split"].items(), key=lambda item: -item[1])
    split = ", ".join(f"{name} {100 * share:.0f} %" for name, share in parts if share >= 0.005)
    return [
        *found,
        ("attempts", str(result["attempts"])),
        ("peak memory", f"{result['peak_memory_gb']:.2f} GB"),
        ("graph, checkpoints, trace", f"{100 * result['overhead_share']:.2f} % of the run"),
        ("time split", split),
        ("start-up", f"{100 * result['start_up_share']:.0f} % (imports, loading)"),
    ]
