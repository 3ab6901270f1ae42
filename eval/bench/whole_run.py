"""``python -m eval.bench run``: what a default run costs here, measured, as ratios where possible."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cao.command_line import run_command
from cao.errors import CaoError


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    import torch  # noqa: PLC0415

    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    load = os.getloadavg()[0]
    return {"cpu": model, "cores": os.cpu_count(), "torch": torch.__version__, "load_before": round(load, 2)}


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


def bench_run(arguments: list[str], repetitions: int) -> dict[str, Any]:
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


def _print(result: dict[str, Any]) -> None:
    table = Table(title=result["command"], title_justify="left", show_header=False)
    table.add_row("machine", f"{result['machine']['cpu']}, {result['machine']['cores']} cores")
    for key, label in (("help_s", "--help"), ("run_s", "whole run")):
        value = result[key]
        table.add_row(label, f"{value['median']:.2f} s median ({value['min']:.2f} – {value['max']:.2f})")
    table.add_row("peak memory", f"{result['peak_memory_gb']:.2f} GB")
    table.add_row("graph, checkpoints, trace", f"{100 * result['overhead_share']:.2f} % of the run")
    parts = sorted(result["split"].items(), key=lambda item: -item[1])
    table.add_row("time split", ", ".join(f"{name} {100 * share:.0f} %" for name, share in parts if share >= 0.005))
    table.add_row("start-up", f"{100 * result['start_up_share']:.0f} % (imports, loading)")
    Console(highlight=False, width=None if sys.stdout.isatty() else 110).print(table)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    p = argparse.ArgumentParser(prog="python -m eval.bench", description=__doc__)
    p.add_argument("name", choices=["run"], help="what to measure")
    p.add_argument("--repetitions", type=int, default=1, help="whole runs (default 1)")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    p.add_argument("arguments", nargs="*", help="arguments for agent.run after -- (default: --task gsm8k)")
    a = p.parse_args(argv)

    def body() -> int:
        result = bench_run(a.arguments or ["--task", "gsm8k"], max(1, a.repetitions))
        if a.json:
            sys.stdout.write(json.dumps(result) + "\n")
        else:
            _print(result)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
