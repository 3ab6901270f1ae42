"""``growth``: time and memory against what may grow: questions, prompt length, adapter length D, number of tasks K.

Time is fitted as a·size^b; where the source says O(D) or O(K·D), b should be 1. What costs the same at every size
pulls b below 1, attention over long prompts pulls it above.

Source: CAO-LLM §2.3, F (O(D)), C (O(K·D)).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cao.progress import Progress, silent
from eval.bench.measure import Figure, alternate, exponent, figure, machine, peak_bytes


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


def measure(axis: Axis, repetitions: int, device: str = "cpu") -> dict[str, Any]:
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
    return {
        "work": axis.work,
        "sizes": list(axis.sizes),
        "seconds": [round(value, 5) for value in medians],
        "peak_mb": [None if peak is None else round(peak / 2**20, 1) for peak in peaks],
        "exponent": fitted.stated,
        "spread": round(fitted.spread, 4),
        "standard_error": round(exponent(axis.sizes, medians)[1], 4),
        "expected": axis.expected,
    }


def bench(
    axes: Sequence[Axis], *, repetitions: int, device: str = "cpu", progress: Progress = silent
) -> dict[str, Any]:
    """Measure along every axis.

    Args:
        axes: what grows.
        repetitions: of every size.
        device: torch device.
        progress: told after each axis.
    """
    described, found = machine(), {}
    for done, axis in enumerate(axes, 1):
        found[axis.name] = measure(axis, repetitions, device)
        progress(axis.name, done, len(axes))
    return {
        "bench": "growth",
        "machine": described,
        "repetitions": repetitions,
        "exponents": {name: each["exponent"] for name, each in found.items()},
        "noisy": [name for name, each in found.items() if each["exponent"] is None],
        "axes": found,
    }


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures in words."""
    found = []
    for name, each in result["axes"].items():
        told = Figure(each["exponent"] or 0.0, each["spread"]).told()
        ends = ""
        if each["exponent"] is not None:
            ends = f"; {each['seconds'][0]:.3f} to {each['seconds'][-1]:.3f} s"
        sizes, peaks = each["sizes"], [peak for peak in each["peak_mb"] if peak is not None]
        memory = f"; peak {peaks[0]:.0f} to {peaks[-1]:.0f} MB" if peaks else ""
        label = f"{name} {sizes[0]:,} to {sizes[-1]:,}: {each['work']}"
        found.append((label, f"exponent {told}, expected {each['expected']:.0f}{ends}{memory}"))
    return found
