"""What a run's start is worth on the test part: the base model and the adapters under one set of answer rules.

A situation is a task and a seed at the point where a run's loop begins. Rules and adapters are chosen on its reward
part; the test part is answered by the base model and by the start, each under the default rule and under its own best
one. Answers are kept in the folder of the situation, so a kill costs a block of one of them.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from agent.loop.reward import measure_part
from agent.record.gains import rule_text
from agent.train.policy.situations import Situation
from cao.files import write_atomic
from cao.progress import Progress
from cao.types import AnswerRule, Record
from eval.generation.bootstrap import interval
from eval.options import TablesOptions
from eval.pages.markdown import table
from eval.policies.ground import laid_out, plan_of
from eval.policies.verdicts import Picks
from tools.evaluate.statistics import RULE_CHOICE, compare, summarise

FOLDER = Path("runs/starts")
"""Where the page is written, where nothing else is said."""


class Side(Record):
    """One model on the test part: accuracy in [0, 1], log-loss at its own temperature in nats, whether at chance."""

    accuracy: float
    loss: float
    at_chance: bool


class StartCell(Record):
    """One situation on its test part.

    Attributes:
        start: ``base``, ``generated`` or ``aligned``.
        rules: in words: the base model's and the start's own best one.
        base_default, base: the base model under the default rule, and under its own best one.
        start_default, adapted: the start likewise.
        chance: accuracy of guessing.
        p_value: exact McNemar, ``adapted`` against ``base``.
        n: questions.
    """

    start: str
    rules: tuple[str, str]
    base_default: Side
    base: Side
    start_default: Side
    adapted: Side
    chance: float
    p_value: float
    n: int


class StartsResult(Record):
    """What was measured; ``cells`` has a situation, ``TASK-SEED``, each.

    Attributes:
        rule_choice: which of the answer rules a model took, in words.
    """

    command: str
    table: str
    measured: str
    model: str
    model_sha256: str
    device: str
    dtype: str | None
    reward: int
    limit: int
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    rule_choice: str
    cells: dict[str, StartCell]


def measure(options: TablesOptions, command: str, progress: Progress) -> StartsResult:
    """Measure everything of the table.

    Args:
        options: what is measured.
        command: that asked for it.
        progress: called during long work.

    Raises:
        InputError: settings or a task that cannot be used, or another process works in the folder.
        UnavailableError: data or model are not at hand.
    """
    with laid_out(plan_of(options), progress) as situations:
        cells = dict[str, StartCell]()
        for done, (name, situation) in enumerate(situations.items(), 1):
            cells[name] = _cell(situation)
            progress("situations", done, len(situations))
    lm = next(iter(situations.values())).bench.lm
    return StartsResult(
        command=command,
        table="starts",
        measured=time.strftime("%Y-%m-%d", time.gmtime()),
        model=lm.profile.name,
        model_sha256=lm.sha256,
        device=lm.device,
        dtype=lm.dtype,
        reward=options.reward,
        limit=options.limit,
        tasks=tuple(dict.fromkeys(situation.bench.task.name for situation in situations.values())),
        seeds=options.seeds,
        rule_choice=RULE_CHOICE,
        cells=cells,
    )


def _cell(situation: Situation) -> StartCell:
    state, bench = situation.prepare(), situation.bench
    base, start = bench.adapted(state["base"]), bench.adapted(state["best"])
    models = {"base": base, "adapted": start}
    models |= {"base_default": base.under(AnswerRule()), "start_default": start.under(AnswerRule())}
    items = {name: measure_part(bench, model, "test", f"test-{name}").items for name, model in models.items()}
    rewards = {name: summarise(answered) for name, answered in items.items()}
    sides = {name: Side(accuracy=r.score, loss=r.loss, at_chance=r.at_chance) for name, r in rewards.items()}
    return StartCell(
        start=state["start"],
        rules=(rule_text(base.answer_rule), rule_text(start.answer_rule)),
        chance=rewards["base"].chance,
        p_value=compare(items["base"], items["adapted"], bench.config.accept).mcnemar_p_value,
        n=rewards["base"].n,
        **sides,
    )


def write_page(result: StartsResult, folder: Path) -> Path:
    """Write ``starts.md`` and ``starts.json``, and return the page's path.

    Args:
        result: what was measured.
        folder: where; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(
        folder / "starts.json", json.dumps(result.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    )
    write_atomic(folder / "starts.md", page(result))
    return folder / "starts.md"


def page(result: StartsResult) -> str:
    """Return the page as Markdown."""
    gains: dict[str, Callable[[StartCell], float]] = {
        "rule alone, base model": lambda c: c.base.accuracy - c.base_default.accuracy,
        "base by its best rule → start": lambda c: c.adapted.accuracy - c.base.accuracy,
        "start: default rule → its best rule": lambda c: c.adapted.accuracy - c.start_default.accuracy,
        "base by the default rule → start": lambda c: c.adapted.accuracy - c.base_default.accuracy,
    }
    means = [[name, _points(result, value)] for name, value in gains.items()]
    heads = [*("task", "guessing", "base, default rule", "base, best rule", "start, best rule"), "change", "starts"]
    tasks = table([*heads, "at chance"], _rows(result))
    situations = table(
        ["situation", "start", "base model's rule", "start's rule", "accuracy", "log-loss", "p (McNemar)"],
        _situations(result),
    )
    seeds = ", ".join(map(str, result.seeds))
    return f"""# The start, under one set of answer rules

Made on {result.measured} by

    {result.command}

{result.model} (sha256 {result.model_sha256[:12]}…), {result.dtype}, device {result.device}; \
{len(result.tasks)} tasks, seeds {seeds}. Rules and adapters are chosen on {result.reward} reward questions, and \
of rules {result.rule_choice}. All that follows is on at most {result.limit} test questions. Generators never saw the \
task that they serve. Intervals are 95 %: a bootstrap over tasks, and over seeds within tasks.

## Changes of the accuracy, mean over tasks and seeds

{table(["step", "points (95 %)"], means)}
## Task by task, mean over seeds

{tasks}
"Change" is the start against the base model, each by its own best rule; "at chance" counts the seeds in which the \
base model and the start are no better than guessing.

## Situation by situation

{situations}"""


def _points(result: StartsResult, value: Callable[[StartCell], float]) -> str:
    """Return a mean over tasks and seeds with its interval, in points."""
    values = np.array([[value(result.cells[f"{task}-{seed}"]) for seed in result.seeds] for task in result.tasks])
    low, high = interval(Picks(*values.shape).means(values))
    return f"{100 * values.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


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
