"""``growth``: time and memory against what may grow: questions, prompt length, adapter length D, number of tasks K.

Time is fitted as a·size^b; where the source says O(D) or O(K·D), b should be 1. What costs the same at every size
pulls b below 1, attention over long prompts pulls it above.

Source: CAO-LLM §2.3, F (O(D)), C (O(K·D)).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cao.progress import Progress, silent
from cao.types import Record
from eval.bench.measure import BenchResult, Figure, Line, alternate, exponent, figure, machine, peak_bytes


@dataclass(frozen=True)
class Axis:
    """One thing that grows.

    Attributes:
        name: what it is.
        work: what is timed.
        sizes: ascending.
        prepare: from a size to the work.
        expected: the exponent that time should have.
    """

    name: str
    work: str
    sizes: tuple[int, ...]
    prepare: Callable[[int], Callable[[], object]]
    expected: float = 1.0


class AxisResult(Record):
    """What was measured along one axis.

    Attributes:
        work: what was timed.
        sizes: ascending.
        seconds: median of each size.
        peak_mb: by how much the process grew at most, None where that cannot be asked.
        exponent: fitted, None where the machine was too noisy.
        spread: of the exponent.
        standard_error: of the fit to the medians.
        expected: the exponent that time should have.
    """

    work: str
    sizes: list[int]
    seconds: list[float]
    peak_mb: list[float | None]
    exponent: float | None
    spread: float
    standard_error: float
    expected: float

    def line(self, name: str) -> Line:
        """Return the figures in words.

        Args:
            name: of the axis.
        """
        growth = Figure(self.exponent or 0.0, self.spread).text()
        ends = "" if self.exponent is None else f"; {self.seconds[0]:.3f} to {self.seconds[-1]:.3f} s"
        peaks = [peak for peak in self.peak_mb if peak is not None]
        memory = f"; peak {peaks[0]:.0f} to {peaks[-1]:.0f} MB" if peaks else ""
        label = f"{name} {self.sizes[0]:,} to {self.sizes[-1]:,}: {self.work}"
        return label, f"exponent {growth}, expected {self.expected:.0f}{ends}{memory}"


class GrowthResult(BenchResult):
    """What was measured along every axis.

    Attributes:
        exponents: axis → fitted exponent, None where the machine was too noisy.
        noisy: those axes.
        axes: axis → all of its figures.
    """

    exponents: dict[str, float | None]
    noisy: list[str]
    axes: dict[str, AxisResult]

    def lines(self) -> list[Line]:
        """Return the figures in words."""
        return [axis.line(name) for name, axis in self.axes.items()]


def measure(axis: Axis, repetitions: int, device: str = "cpu") -> AxisResult:
    """Return time, memory and the fitted exponent along one axis.

    Args:
        axis: what grows.
        repetitions: of every size, by turns.
        device: that is waited for.
    """
    bodies = {str(size): axis.prepare(size) for size in axis.sizes}
    next(iter(bodies.values()))()  # what is done once, whatever the size
    peaks = [peak_bytes(body) for body in bodies.values()]
    took = alternate(bodies, repetitions, device=device)
    each = [exponent(axis.sizes, [took[str(size)][turn] for size in axis.sizes])[0] for turn in range(repetitions)]
    fitted = figure(each)
    medians = [figure(took[str(size)]).median for size in axis.sizes]
    return AxisResult(
        work=axis.work,
        sizes=list(axis.sizes),
        seconds=[round(value, 5) for value in medians],
        peak_mb=[None if peak is None else round(peak / 2**20, 1) for peak in peaks],
        exponent=fitted.stated,
        spread=fitted.scatter,
        standard_error=round(exponent(axis.sizes, medians)[1], 4),
        expected=axis.expected,
    )


def bench(axes: Sequence[Axis], *, repetitions: int, device: str = "cpu", progress: Progress = silent) -> GrowthResult:
    """Measure along every axis.

    Args:
        axes: what grows.
        repetitions: of every size.
        device: torch device.
        progress: called after each axis.
    """
    described, measured = machine(), dict[str, AxisResult]()
    for done, axis in enumerate(axes, 1):
        measured[axis.name] = measure(axis, repetitions, device)
        progress(axis.name, done, len(axes))
    return GrowthResult(
        bench="growth",
        machine=described,
        repetitions=repetitions,
        exponents={name: axis.exponent for name, axis in measured.items()},
        noisy=[name for name, axis in measured.items() if axis.exponent is None],
        axes=measured,
    )
