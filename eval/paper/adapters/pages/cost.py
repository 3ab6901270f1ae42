"""The page of Appendix C's cost."""

from pathlib import Path

from eval.pages.markdown import table
from eval.paper.adapters.cost_results import AxisCost, CostResult, Way
from eval.paper.adapters.pages import pictures
from eval.paper.adapters.pages.wording import header, verdict_table


def cost_parts(result: CostResult, folder: Path) -> list[str]:
    """Draw the picture and return the page's parts.

    Args:
        result: what was measured.
        folder: of the picture.
    """
    pictures.growth(result.axes, folder / "cost.svg")
    told = f"""{result.machine}; {result.repetitions} repetitions by turns. D is an adapter's length, K the number of \
tasks. Time and operations are fitted as a·size^b; operations are counted by torch, matrix products and convolutions \
alone, and no other load changes them. Layers have the shapes of {result.model}'s, and their number gives D; the \
aligner is the paper's, a Fusion VAE over chunks (the one that ships decodes two numbers a module: ADR 35). More \
benchmarks stand in `docs/results/benchmarks.md`.
"""
    heads = [
        "what grows",
        "what is done",
        "paper",
        "operations, exponent",
        "time, exponent (spread)",
        "seconds",
        "GFLOP",
    ]
    ways = ["way to an adapter", "seconds", "times ours", "GFLOP", "times ours", "gradients of the task", "measured on"]
    return [
        header("The paper's Appendix C, measured here", result),
        told,
        verdict_table(result.verdicts),
        "## Growth\n",
        table(heads, [_axis(name, each) for name, each in result.axes.items()]),
        "![Growth of time and operations](cost.svg)\n",
        *_ways(result, ways),
        *(f"n/a: {name}: {why}\n" for name, why in result.absent.items()),
    ]


def _axis(name: str, each: AxisCost) -> list[str]:
    time = "too noisy" if each.exponent is None else f"{each.exponent:.2f} ({100 * each.spread:.0f} %)"
    seconds = f"{each.seconds[0]:.3g} to {each.seconds[-1]:.3g}"
    operations = f"{each.operations[0] / 1e9:.3g} to {each.operations[-1] / 1e9:.3g}"
    label = f"{name}, {each.sizes[0]:,} to {each.sizes[-1]:,}"
    return [label, each.work, each.order, f"{each.operations_exponent:.2f}", time, seconds, operations]


def _ways(result: CostResult, heads: list[str]) -> list[str]:
    if not result.ways:
        return []
    first = next(iter(result.ways.values()))
    rows = [_way(name, each, first) for name, each in result.ways.items()]
    return ["## Ways to an adapter\n", table(heads, rows)]


def _way(name: str, each: Way, first: Way) -> list[str]:
    times = [f"{each.seconds / first.seconds:.0f}", f"{each.operations / first.operations:.0f}"]
    gradients = "yes" if each.gradients else "none"
    seconds, operations = f"{each.seconds:,.1f}", f"{each.operations / 1e9:,.0f}"
    return [name, seconds, times[0], operations, times[1], gradients, each.how]
