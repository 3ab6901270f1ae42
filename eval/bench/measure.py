"""How a figure is measured: both sides by turns in one process, medians, and none where they scatter too widely."""

import ctypes
import gc
import math
import os
import statistics
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import nn

from cao.machine.compute import processor_rates
from cao.machine.linear import FastLinear
from cao.machine.processor import processor_name, switched_off
from cao.progress import Progress, silent
from cao.types import Record
from eval.pages.absent import is_none

TOO_WIDE = 0.25
"""Largest interquartile range over median at which a figure is stated."""


Line = tuple[str, str]
"""A figure in words: its label and its value."""


class Machine(Record):
    """What the figures depend on.

    Attributes:
        cpu: the processor's name.
        cores: the machine's.
        threads: torch's.
        torch: its version.
        load_before: the machine's load before the measurement.
        rates: of matrix products in each dtype, in words.
        faster: the dtype of the higher rate.
        switched_off: variables that keep libraries from instructions that the processor has.
        gpu: its name, where there is one.
    """

    cpu: str
    cores: int | None
    threads: int
    torch: str
    load_before: float
    rates: str
    faster: str
    switched_off: dict[str, str]
    gpu: str | None = Field(default=None, exclude_if=is_none)

    @property
    def sentence(self) -> str:
        """The machine in one line."""
        gpu = f"{self.gpu}, " if self.gpu else ""
        switched = "".join(f"; {name}={value}" for name, value in self.switched_off.items())
        return (
            f"{gpu}{self.cpu}, {self.cores} cores, {self.threads} threads, torch {self.torch}, "
            f"load {self.load_before:.1f} before; {self.rates}{switched}"
        )


def machine() -> Machine:
    """Return this machine."""
    rates = processor_rates()
    return Machine(
        cpu=processor_name(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        load_before=round(os.getloadavg()[0], 2),
        rates=rates.sentence(),
        faster=rates.faster,
        switched_off=switched_off(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )


class BenchResult(Record):
    """What every benchmark's result has.

    Attributes:
        bench: the benchmark's name.
        machine: where it ran.
        repetitions: of each side.
    """

    bench: str
    machine: Machine
    repetitions: int

    @abstractmethod
    def lines(self) -> list[Line]:
        """Return the figures in words."""


@dataclass(frozen=True)
class Figure:
    """A measured value.

    Attributes:
        median: over the repetitions.
        spread: interquartile range over median of the repetitions; infinite where the median is 0.
    """

    median: float
    spread: float

    @property
    def noisy(self) -> bool:
        """Whether the repetitions scatter too widely for the value to be stated."""
        return not self.spread <= TOO_WIDE

    @property
    def stated(self) -> float | None:
        """The value, or None where the machine was too noisy for it."""
        return None if self.noisy else round(self.median, 4)

    @property
    def scatter(self) -> float:
        """The spread as results keep it."""
        return round(self.spread, 4)

    def text(self, form: str = "{:.2f}") -> str:
        """Return the value in words, or why there is none.

        Args:
            form: how the value is written.
        """
        if self.noisy:
            return f"the machine is too noisy: spread {100 * self.spread:.0f} %, at most {100 * TOO_WIDE:.0f} %"
        return f"{form.format(self.median)} (spread {100 * self.spread:.0f} %)"


def figure(values: Sequence[float]) -> Figure:
    """Return the median and the spread of repeated measurements."""
    return Figure(statistics.median(values), relative_range(values))


def relative_range(values: Sequence[float]) -> float:
    """Return interquartile range over median; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / abs(middle) if middle else math.inf


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> Figure:
    """Return median theirs over median ours; the spread is that of the repetitions' own ratios.

    A slow minute of the machine hits both sides of a repetition, so that their ratio scatters less than they do.

    Args:
        theirs: seconds of each repetition.
        ours: seconds of the same repetitions.
    """
    each = [t / o for t, o in zip(theirs, ours, strict=True)]
    return Figure(statistics.median(theirs) / statistics.median(ours), relative_range(each))


def geometric_mean(figures: Sequence[Figure]) -> float | None:
    """Return the geometric mean of figures, None where one of them is too noisy or there is none."""
    if not figures or any(each.noisy for each in figures):
        return None
    return round(statistics.geometric_mean(each.median for each in figures), 4)


@contextmanager
def plain_linear(module: nn.Module) -> Iterator[None]:
    """Have linear layers multiply as torch does by itself, for the length of the block: what others are timed with."""
    ours = [part for part in module.modules() if type(part) is FastLinear]
    for part in ours:
        part.__class__ = nn.Linear  # type: ignore[assignment]
    try:
        yield
    finally:
        for part in ours:
            part.__class__ = FastLinear


def now(device: str = "cpu") -> float:
    """Return the time once the device has finished its queue."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(body: Callable[[], object], device: str = "cpu") -> float:
    """Return how long a piece of work takes."""
    started = now(device)
    body()
    return now(device) - started


def alternate(
    sides: Mapping[str, Callable[[], object]],
    repetitions: int,
    *,
    device: str = "cpu",
    progress: Progress = silent,
) -> dict[str, list[float]]:
    """Time several pieces of work by turns: first, second, first, second and so on.

    Args:
        sides: name → work.
        repetitions: how often each is done.
        device: that is waited for.
        progress: called after each turn.

    Returns:
        Name → seconds of each repetition.
    """
    took: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repetitions):
        for name, body in sides.items():
            took[name].append(seconds(body, device))
        progress("repetition", turn + 1, repetitions)
    return took


def peak_bytes(body: Callable[[], object]) -> int | None:
    """Return by how much the process grew at most during a piece of work; None where that cannot be asked.

    Linux forgets the peak so far on request; what the allocator holds back is returned first.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        body()
        return max(0, _status("VmHWM") - before)
    except (OSError, AttributeError, StopIteration):
        return None


def largest_size() -> int | None:
    """Return the most memory that this process ever held, bytes; None where that cannot be asked."""
    try:
        return _status("VmHWM")
    except (OSError, StopIteration):
        return None


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def exponent(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Return b of value = a·size^b by least squares of the logarithms, and its standard error.

    Args:
        sizes: two or more different ones, above zero.
        values: above zero.
    """
    x, y = np.log(np.asarray(sizes, dtype=float)), np.log(np.asarray(values, dtype=float))
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    error = math.sqrt(float(rest @ rest) / (len(x) - 2) / float(x @ x)) if len(x) > 2 else 0.0
    return slope, error
