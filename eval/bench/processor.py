"""``processor``: what the processor does in each dtype, what finding out costs, and what threads that wait cost."""

import statistics
import subprocess
import sys
import tempfile

from cao.machine.compute import Rates
from cao.progress import Progress, silent
from cao.types import Record
from eval.bench.measure import BenchResult, Figure, Line, figure, machine, ratio
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


class Probe(Record):
    """What a process says that measures the rates and asks for them again.

    Attributes:
        first_s: of the measurement.
        again_s: of asking again.
        rates: that were measured.
    """

    first_s: float
    again_s: float
    rates: Rates


class Work(Record):
    """What a process says that works for a while: ``rate``, layers a second."""

    rate: float


class Relative(Record):
    """A ratio of throughputs with its spread."""

    median: float
    spread: float

    @classmethod
    def of(cls, measured: Figure) -> "Relative":
        """Return a figure as results keep it."""
        return cls(median=round(measured.median, 4), spread=measured.scatter)

    @property
    def text(self) -> str:
        """The ratio in words."""
        return f"{Figure(self.median, self.spread).text()} of the throughput"


class ProcessorResult(BenchResult):
    """What the processor does.

    Attributes:
        probe_s: the longest measurement of the rates.
        kept_s: the longest asking for kept ones.
        float32: operations a second.
        bfloat16: the same.
        ours_over_spinning_idle: throughput with threads that sleep soon over that with threads that spin.
        ours_over_spinning_busy: the same beside a busy process.
        busy_over_idle: our throughput beside a busy process over that on an idle machine.
        noisy: what scatters too widely.
    """

    probe_s: float
    kept_s: float
    float32: float
    bfloat16: float
    ours_over_spinning_idle: Relative
    ours_over_spinning_busy: Relative
    busy_over_idle: Relative
    noisy: list[str]

    def lines(self) -> list[Line]:
        """Return the figures in words."""
        return [
            ("float32 products", f"{self.float32 / 1e9:.0f} GFLOP/s"),
            ("bfloat16 products", f"{self.bfloat16 / 1e9:.0f} GFLOP/s"),
            ("finding out, once", f"{self.probe_s:.2f} s at most, then {1000 * self.kept_s:.1f} ms"),
            ("sleeping soon over spinning, idle machine", self.ours_over_spinning_idle.text),
            ("the same beside a busy process", self.ours_over_spinning_busy.text),
            ("beside a busy process over idle", self.busy_over_idle.text),
        ]


def printed(program: str, **environment: str) -> str:
    """Return what a process prints.

    Args:
        program: its Python code.
        environment: variables that are set for it.
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=fresh_environment(**environment),
    )
    return done.stdout


def bench(repetitions: int, progress: Progress = silent) -> ProcessorResult:
    """Measure, each time in processes of their own.

    Args:
        repetitions: of each.
        progress: called after each.
    """
    described, probes = machine(), list[Probe]()
    rates: dict[tuple[str, bool], list[float]] = {(how, busy): [] for busy in (False, True) for how in WAITING}
    for turn in range(repetitions):
        with tempfile.TemporaryDirectory() as folder:
            probes.append(Probe.model_validate_json(printed(PROBE, XDG_CACHE_HOME=folder)))
        for how in WAITING:
            rates[how, False].append(Work.model_validate_json(printed(WORK, **WAITING[how])).rate)
        with busy_neighbour():
            for how in WAITING:
                rates[how, True].append(Work.model_validate_json(printed(WORK, **WAITING[how])).rate)
        progress("repetition", turn + 1, repetitions)
    idle, beside = (ratio(rates["ours", busy], rates["spinning", busy]) for busy in (False, True))
    over_idle = figure([b / i for b, i in zip(rates["ours", True], rates["ours", False], strict=True)])
    return ProcessorResult(
        bench="processor",
        machine=described,
        repetitions=repetitions,
        probe_s=max(probe.first_s for probe in probes),
        kept_s=max(probe.again_s for probe in probes),
        float32=statistics.median(probe.rates.float32 for probe in probes),
        bfloat16=statistics.median(probe.rates.bfloat16 for probe in probes),
        ours_over_spinning_idle=Relative.of(idle),
        ours_over_spinning_busy=Relative.of(beside),
        busy_over_idle=Relative.of(over_idle),
        noisy=[name for name, each in (("idle", idle), ("busy", beside)) if each.noisy],
    )


WAITING = {"ours": {}, "spinning": {"OMP_WAIT_POLICY": "active"}}
"""How threads wait → what is set for it."""
