"""The page of starts, as Markdown and JSON."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from cao.types import AcceptRule
from eval.generation.bootstrap import interval
from eval.pages.markdown import table, with_interval
from eval.pages.writing import write_result
from eval.policies.starts import Side, StartCell, StartsResult
from eval.policies.verdicts import Picks, sign_flips

A_POINT = 0.01
"""What an accuracy may fall by before a situation counts as below the base model."""

FOLDER = Path("runs/starts")
"""Where the page is written, where nothing else is said."""


def write_page(result: StartsResult, folder: Path) -> Path:
    """Write ``starts.md`` and ``starts.json``, and return the page's path.

    Args:
        result: what was measured.
        folder: where; made if it is not there.

    Raises:
        InputError: it cannot be written.
    """
    return write_result(result, page(result), folder, "starts")


def page(result: StartsResult) -> str:
    """Return the page as Markdown."""
    gains: dict[str, Callable[[StartCell], float]] = {
        "rule alone, base model": lambda c: c.base.accuracy - c.base_default.accuracy,
        "base by its best rule → start": lambda c: c.adapted.accuracy - c.base.accuracy,
        "start: default rule → its best rule": lambda c: c.adapted.accuracy - c.start_default.accuracy,
        "base by the default rule → start": lambda c: c.adapted.accuracy - c.base_default.accuracy,
    }
    means = [[name, *_points(result, value)] for name, value in gains.items()]
    heads = [*("task", "guessing", "base, default rule", "base, best rule", "start, best rule"), "change", "starts"]
    tasks = table([*heads, "at chance"], _rows(result))
    rules = table(
        ["rule", "starts from an adapter", "points (95 %)", "p", "more than a point below base"], _rules(result)
    )
    situations = table(
        ["situation", "start", "base model's rule", "start's rule", "accuracy", "log-loss", "p (McNemar)"],
        _situations(result),
    )
    seeds = ", ".join(map(str, result.seeds))
    return f"""# The start, under one set of answer rules

Made on {result.measured} by

    {result.command}

{result.model} (sha256 {result.model_sha256[:12]}…), {result.dtype}, device {result.device}; \
{len(result.tasks)} tasks, seeds {seeds}. Rules and adapters are chosen on {result.reward} reward questions, \
adapters by the rule of acceptance `{result.rule}`, and of answer rules {result.rule_choice}. All that follows is on \
at most {result.limit} test questions. A task is served by a generator that never saw it, where there is one. \
Intervals are 95 %: a bootstrap over tasks, and over seeds within tasks, too short where tasks are few; p is \
two-sided, by flipping the signs of the tasks' mean differences.

## Changes of the accuracy, mean over tasks and seeds

{table(["step", "points (95 %)", "p"], means)}
## Task by task, mean over seeds

{tasks}
"Change" is the start against the base model, each by its own best rule; "at chance" counts the seeds in which the \
base model and the start are no better than guessing.

## What each rule of acceptance would start from

Against the base model by its best rule, every reward question asked. `either` takes a surely lower log-loss or a \
surely higher accuracy, `confident` the first alone, `any`, the paper's, whatever has a higher accuracy.

{rules}
## Situation by situation

{situations}"""


def _rules(result: StartsResult) -> list[list[str]]:
    def change(cell: StartCell, rule: AcceptRule) -> float:
        return cell.by_rule[rule].adapted.accuracy - cell.base.accuracy

    rows = []
    for rule in get_args(AcceptRule):
        cells = result.cells.values()
        adopted = sum(cell.by_rule[rule].start != "base" for cell in cells)
        below = sum(change(cell, rule) < -A_POINT for cell in cells)
        points = _points(result, partial(change, rule=rule))
        rows.append([f"`{rule}`", f"{adopted} of {len(cells)}", *points, f"{below} of {len(cells)}"])
    return rows


def _points(result: StartsResult, value: Callable[[StartCell], float]) -> tuple[str, str]:
    """Return a mean over tasks and seeds with its interval, in points, and its p-value."""
    values = np.array([[value(result.cells[f"{task}-{seed}"]) for seed in result.seeds] for task in result.tasks])
    points = with_interval(values.mean(), interval(Picks(*values.shape).means(values)))
    return points, f"{sign_flips(values.mean(1)):.3g}"


def _rows(result: StartsResult) -> list[list[str]]:
    rows = []
    for task in result.tasks:
        cells = [result.cells[f"{task}-{seed}"] for seed in result.seeds]
        change = 100 * (_mean(cells, "adapted") - _mean(cells, "base"))
        known = {name: sum(cell.start == name for cell in cells) for name in ("base", "generated", "aligned")}
        starts = ", ".join(f"{count} {name}" for name, count in known.items() if count)
        guessed = [sum(cell.base.at_chance for cell in cells), sum(cell.adapted.at_chance for cell in cells)]
        at = f"{guessed[0]} and {guessed[1]} of {len(cells)}"
        shares = [100 * _mean(cells, side) for side in ("base_default", "base", "adapted")]
        guessing = 100 * sum(cell.chance for cell in cells) / len(cells)
        rows.append([task, f"{guessing:.1f}", *(f"{share:.1f}" for share in shares), f"{change:+.1f}", starts, at])
    return rows


def _mean(cells: Sequence[StartCell], side: str) -> float:
    sides: list[Side] = [getattr(cell, side) for cell in cells]
    return sum(one.accuracy for one in sides) / len(sides)


def _situations(result: StartsResult) -> list[list[str]]:
    return [
        [
            name,
            cell.start,
            *cell.rules,
            f"{100 * cell.base.accuracy:.1f} → {100 * cell.adapted.accuracy:.1f} %",
            f"{cell.base.loss:.4f} → {cell.adapted.loss:.4f}",
            f"{cell.p_value:.3f}",
        ]
        for name, cell in result.cells.items()
    ]
