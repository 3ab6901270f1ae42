"""``run``: what a default run costs here, where its time goes, and how other ways of running it compare."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cao.errors import CaoError, InputError
from eval.bench.measure import machine, ratio

PLAIN = "as it is"


@dataclass(frozen=True)
class Way:
    """A way of starting a run.

    Attributes:
        arguments: that are added to the command's own.
        environment: variables that are set.
        busy: whether a process beside it keeps one core busy.
        told: what it is, in words.
    """

    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    busy: bool = False
    told: str = PLAIN


WAYS = {
    "float32": Way(("--dtype", "float32"), told="--dtype float32"),
    "bfloat16": Way(("--dtype", "bfloat16"), told="--dtype bfloat16"),
    "busy": Way(busy=True, told="beside a process that keeps one core busy"),
    "spinning": Way(environment=(("OMP_WAIT_POLICY", "active"),), told="with threads that spin"),
}
"""Name → what ``--compare`` sets against the run as it is."""


def help_seconds(repetitions: int) -> list[float]:
    """Return the wall-clock seconds of ``python -m agent.run --help``."""
    seconds = []
    for _ in range(repetitions):
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "agent.run", "--help"], check=True, capture_output=True)
        seconds.append(time.monotonic() - started)
    return seconds


def fresh_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without what it settled for its own threads, and with changes."""
    settled = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    return {**{name: value for name, value in os.environ.items() if name not in settled}, **changes}


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Keep one core busy for the length of the block."""
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def one_run(arguments: Sequence[str], out: Path, environment: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """Run ``agent.run`` in a process of its own and return its record with the wall-clock time.

    Raises:
        CaoError: the run failed.
    """
    command = [sys.executable, "-m", "agent.run", "--json", "--out", str(out), *arguments]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=fresh_environment(**dict(environment)))
    wall = time.monotonic() - started
    if done.returncode:
        raise CaoError(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}")
    record: dict[str, Any] = json.loads(done.stdout)
    return {**record, "wall_s": wall}


def _started(way: Way, arguments: Sequence[str], out: Path) -> dict[str, Any]:
    def go() -> dict[str, Any]:
        return one_run([*arguments, *way.arguments], out, way.environment)

    if not way.busy:
        return go()
    with busy_neighbour():
        return go()


def bench(arguments: Sequence[str], repetitions: int, compared: Sequence[str] = ()) -> dict[str, Any]:
    """Measure ``--help`` and whole runs.

    Args:
        arguments: for ``agent.run``.
        repetitions: whole runs of each way, by turns; ``--help`` is timed five times as often.
        compared: names of ``WAYS`` to set against the run as it is.

    Raises:
        InputError: an unknown way.
    """
    if unknown := [name for name in compared if name not in WAYS]:
        raise InputError(f"--compare: nothing is called {unknown[0]!r}; known: {', '.join(WAYS)}")
    described = machine()
    helps = help_seconds(5 * repetitions)
    ways = {PLAIN: Way(), **{name: WAYS[name] for name in compared}}
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repetitions):
            for name, way in ways.items():
                records[name].append(_started(way, arguments, Path(folder)))
    walls = {name: [record["wall_s"] for record in each] for name, each in records.items()}
    last = records[PLAIN][-1]
    return {
        "bench": "run",
        "machine": described,
        "command": f"python -m agent.run {' '.join(arguments)}",
        "repetitions": repetitions,
        "help_s": _spread(helps),
        "run_s": _spread(walls[PLAIN]),
        "peak_memory_gb": max(record["peak_memory_mb"] for record in records[PLAIN]) / 1024,
        "overhead_share": max(record["overhead_share"] for record in records[PLAIN]),
        "dtype": last["dtype"],
        "attempts": last["attempts"],
        "evaluations": last["evaluations"],
        "split": {name: round(seconds / last["wall_s"], 4) for name, seconds in last["timing_s"].items()},
        "start_up_share": round(1 - last["seconds"] / last["wall_s"], 4),
        "compared": {name: _against(name, walls, records[name][-1]) for name in compared},
    }


def _against(name: str, walls: dict[str, list[float]], last: dict[str, Any]) -> dict[str, Any]:
    """Return how a way compares with the run as it is; ``ratio`` is its time over that of the plain run."""
    found = ratio(walls[name], walls[PLAIN])
    return {
        "run_s": _spread(walls[name]),
        "ratio": round(found.median, 4),
        "spread": round(found.spread, 4),
        "dtype": last["dtype"],
        "attempts": last["attempts"],
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
    for key, label in (("help_s", "--help"), ("run_s", f"whole run, {result['dtype']}")):
        found.append((label, _told(result[key])))
    for name, each in result["compared"].items():
        attempts = "" if each["attempts"] == result["attempts"] else f", {each['attempts']} attempts"
        told = f"{each['ratio']:.2f} times the time ({_told(each['run_s'])}{attempts})"
        found.append((f"the same {WAYS[name].told}", told))
    parts = sorted(result["split"].items(), key=lambda item: -item[1])
    split = ", ".join(f"{name} {100 * share:.0f} %" for name, share in parts if share >= 0.005)
    counts = result["evaluations"]
    return [
        *found,
        ("attempts", str(result["attempts"])),
        ("reward questions", f"{counts['answered']} answered of {counts['asked']}"),
        ("peak memory", f"{result['peak_memory_gb']:.2f} GB"),
        ("graph, checkpoints, trace", f"{100 * result['overhead_share']:.2f} % of the run"),
        ("time split", split),
        ("start-up", f"{100 * result['start_up_share']:.0f} % (imports, loading)"),
    ]


def _told(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} s median ({value['min']:.2f} – {value['max']:.2f})"
