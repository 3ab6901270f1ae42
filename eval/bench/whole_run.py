"""``run``: what a default run costs here, where its time goes, and how other ways of running it compare."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cao.errors import CaoError, InputError
from cao.types import Record
from eval.bench.measure import BenchResult, Line, machine, ratio
from eval.bench.ways import PLAIN, WAYS, Way


class Evaluations(BaseModel):
    """How many reward questions a run answered; what else its record says of them is kept as it is."""

    model_config = ConfigDict(frozen=True, extra="allow")

    asked: int
    answered: int


class RunCost(BaseModel):
    """What a run's record says of its cost; the rest of the record is left out.

    Attributes:
        seconds: from its first node to its last.
        wall_s: of the whole process.
        peak_memory_mb: the process's largest size.
        overhead_share: of graph, checkpoints and trace in the run's time.
        dtype: what the model computed in.
        attempts: of the loop.
        evaluations: reward questions.
        timing_s: node → seconds.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    seconds: float
    wall_s: float = 0.0
    peak_memory_mb: float
    overhead_share: float
    dtype: str
    attempts: int
    evaluations: Evaluations
    timing_s: dict[str, float]


class Seconds(Record):
    """Repeated measurements of a time, s."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Seconds":
        """Return the summary of some repetitions."""
        return cls(median=round(statistics.median(values), 3), min=round(min(values), 3), max=round(max(values), 3))

    @property
    def text(self) -> str:
        """The figure in words."""
        return f"{self.median:.2f} s median ({self.min:.2f} – {self.max:.2f})"


class Compared(Record):
    """A way of running against the run as it is.

    Attributes:
        run_s: of its whole runs.
        ratio: its time over that of the plain run.
        spread: of the ratio.
        dtype: what the model computed in.
        attempts: of the last run.
    """

    run_s: Seconds
    ratio: float
    spread: float
    dtype: str
    attempts: int


class RunResult(BenchResult):
    """What whole runs cost.

    Attributes:
        command: that was run.
        help_s: of ``--help``.
        run_s: of a whole run.
        peak_memory_gb: of the largest run.
        overhead_share: of the run with the largest one.
        dtype: of the last run, as are the next four.
        attempts: of the loop.
        evaluations: reward questions.
        split: node → share of the time.
        start_up_share: of imports and loading.
        compared: way → how it compares.
    """

    command: str
    help_s: Seconds
    run_s: Seconds
    peak_memory_gb: float
    overhead_share: float
    dtype: str
    attempts: int
    evaluations: Evaluations
    split: dict[str, float]
    start_up_share: float
    compared: dict[str, Compared]

    def lines(self) -> list[Line]:
        """Return the figures in words."""
        lines = [("--help", self.help_s.text), (f"whole run, {self.dtype}", self.run_s.text)]
        for name, way in self.compared.items():
            attempts = "" if way.attempts == self.attempts else f", {way.attempts} attempts"
            times = f"{way.ratio:.2f} times the time ({way.run_s.text}{attempts})"
            lines.append((f"the same {WAYS[name].words}", times))
        parts = sorted(self.split.items(), key=lambda item: -item[1])
        split = ", ".join(f"{name} {100 * share:.0f} %" for name, share in parts if share >= 0.005)
        return [
            *lines,
            ("attempts", str(self.attempts)),
            ("reward questions", f"{self.evaluations.answered} answered of {self.evaluations.asked}"),
            ("peak memory", f"{self.peak_memory_gb:.2f} GB"),
            ("graph, checkpoints, trace", f"{100 * self.overhead_share:.2f} % of the run"),
            ("time split", split),
            ("start-up", f"{100 * self.start_up_share:.0f} % (imports, loading)"),
        ]


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


def one_run(arguments: Sequence[str], out: Path, environment: Sequence[tuple[str, str]] = ()) -> RunCost:
    """Run ``agent.run`` in a process of its own and return what it cost, with the wall-clock time.

    Raises:
        CaoError: the run failed.
    """
    command = [sys.executable, "-m", "agent.run", "--json", "--out", str(out), *arguments]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=fresh_environment(**dict(environment)))
    wall = time.monotonic() - started
    if done.returncode:
        raise CaoError(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}")
    return RunCost.model_validate_json(done.stdout).model_copy(update={"wall_s": wall})


def _started(way: Way, arguments: Sequence[str], out: Path) -> RunCost:
    def go() -> RunCost:
        return one_run([*arguments, *way.arguments], out, way.environment)

    if not way.busy:
        return go()
    with busy_neighbour():
        return go()


def bench(arguments: Sequence[str], repetitions: int, compared: Sequence[str] = ()) -> RunResult:
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
    costs: dict[str, list[RunCost]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repetitions):
            for name, way in ways.items():
                costs[name].append(_started(way, arguments, Path(folder)))
    walls = {name: [cost.wall_s for cost in several] for name, several in costs.items()}
    last = costs[PLAIN][-1]
    return RunResult(
        bench="run",
        machine=described,
        repetitions=repetitions,
        command=f"python -m agent.run {' '.join(arguments)}",
        help_s=Seconds.of(helps),
        run_s=Seconds.of(walls[PLAIN]),
        peak_memory_gb=max(cost.peak_memory_mb for cost in costs[PLAIN]) / 1024,
        overhead_share=max(cost.overhead_share for cost in costs[PLAIN]),
        dtype=last.dtype,
        attempts=last.attempts,
        evaluations=last.evaluations,
        split={name: round(seconds / last.wall_s, 4) for name, seconds in last.timing_s.items()},
        start_up_share=round(1 - last.seconds / last.wall_s, 4),
        compared={name: _against(walls[name], walls[PLAIN], costs[name][-1]) for name in compared},
    )


def _against(walls: Sequence[float], plain: Sequence[float], last: RunCost) -> Compared:
    over = ratio(walls, plain)
    return Compared(
        run_s=Seconds.of(walls),
        ratio=round(over.median, 4),
        spread=over.scatter,
        dtype=last.dtype,
        attempts=last.attempts,
    )
