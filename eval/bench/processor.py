"""``processor``: what the processor does in each dtype, what finding out costs, and what threads that wait cost."""

import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from cao.progress import Progress, silent
from eval.bench.measure import Figure, figure, machine, ratio
from eval.bench.whole_run import busy_neighbour, fresh_environment

PROBE = """
import json, time
from cao.command_line import quiet_libraries
quiet_libraries(offline=True)
from cao.machine import compute
times = []
for _ in range(2):
    started = time.perf_counter()
    rates = compute.processor_rates()
    times.append(time.perf_counter() - started)
print(json.dumps({"first_s": times[0], "again_s": times[1], "rates": rates.model_dump()}))
"""
"""A process that measures the rates and asks for them again."""

WORK = """
import json, time
from cao.command_line import quiet_libraries
quiet_libraries(offline=True)
import torch
from cao.machine.linear import linear
x, up, down = torch.randn(512, 576), torch.randn(1536, 576), torch.randn(576, 1536)
def layer():
    return linear(torch.nn.functional.silu(linear(x, up)), down).mul_(0.5).add_(1)
layer()
started, count = time.perf_counter(), 0
while time.perf_counter() - started < 2:
    layer()
    count += 1
print(json.dumps({"rate": count / (time.perf_counter() - started)}))
"""
"""A process that does a layer's products and the passes between them, and says how many a second."""


def _said(program: str, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=fresh_environment(**environment),
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def bench(repetitions: int, progress: Progress = silent) -> dict[str, Any]:
    """Measure, each time in processes of their own.

    Args:
        repetitions: of each.
        progress: told after each.
    """
    described, probes = machine(), list[dict[str, Any]]()
    rates: dict[tuple[str, bool], list[float]] = {(how, busy): [] for busy in (False, True) for how in WAITING}
    for turn in range(repetitions):
        with tempfile.TemporaryDirectory() as folder:
            probes.append(_said(PROBE, XDG_CACHE_HOME=folder))
        for how in WAITING:
            rates[how, False].append(_said(WORK, **WAITING[how])["rate"])
        with busy_neighbour():
            for how in WAITING:
                rates[how, True].append(_said(WORK, **WAITING[how])["rate"])
        progress("repetition", turn + 1, repetitions)
    idle, beside = (ratio(rates["ours", busy], rates["spinning", busy]) for busy in (False, True))
    return {
        "bench": "processor",
        "machine": described,
        "repetitions": repetitions,
        "probe_s": max(probe["first_s"] for probe in probes),
        "kept_s": max(probe["again_s"] for probe in probes),
        **{name: statistics.median(probe["rates"][name] for probe in probes) for name in ("float32", "bfloat16")},
        "ours_over_spinning_idle": _told(idle),
        "ours_over_spinning_busy": _told(beside),
        "busy_over_idle": _told(
            figure([b / i for b, i in zip(rates["ours", True], rates["ours", False], strict=True)])
        ),
        "noisy": [name for name, each in (("idle", idle), ("busy", beside)) if each.noisy],
    }


WAITING = {"ours": {}, "spinning": {"OMP_WAIT_POLICY": "active"}}
"""How threads wait → what is set for it."""


def _told(found: Figure) -> dict[str, float]:
    return {"median": round(found.median, 4), "spread": round(found.spread, 4)}


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures in words."""

    def shown(key: str) -> str:
        return Figure(result[key]["median"], result[key]["spread"]).told()

    return [
        ("float32 products", f"{result['float32'] / 1e9:.0f} GFLOP/s"),
        ("bfloat16 products", f"{result['bfloat16'] / 1e9:.0f} GFLOP/s"),
        ("finding out, once", f"{result['probe_s']:.2f} s at most, then {1000 * result['kept_s']:.1f} ms"),
        (
            "sleeping soon over spinning, idle machine",
            f"{shown('ours_over_spinning_idle')} of the throughput",
        ),
        ("the same beside a busy process", f"{shown('ours_over_spinning_busy')} of the throughput"),
        ("beside a busy process over idle", f"{shown('busy_over_idle')} of the throughput"),
    ]
