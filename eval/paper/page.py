"""A table's page: means with differences first, then task by task, the paper's own figures in their own columns."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from agent.record.wording import count
from eval.baselines.baseline import Spent
from eval.pages.markdown import table, with_interval
from eval.pages.writing import write_result
from eval.paper.how_measured import heading, how_measured
from eval.paper.published import SIZES, average, figure
from eval.paper.results import KINDS, Cell, RowResult, TableResult, Versus
from eval.paper.rows import ROWS, WHOLE, title
from eval.paper.tables import TABLES

SPENT = """Steps are an optimiser's; tokens are those that a model read, each time that it read them. What was not kept
is not stated.
"""

OURS = """For the project's own rows the tokens are those that the training of the generator and of its aligner read,
reckoned from their presets; those of the policy's training nobody kept.
"""

METERED = """Tokens and seconds of a whole run on the target are those of its loop. They leave out the answers
that another row had kept already, and what an accepted TTL with `inputs=test` trains on the test questions at the end.
"""


def write_page(result: TableResult, folder: Path, pictures: Sequence[str] = ()) -> Path:
    """Write ``tableN.md`` and ``tableN.json``, and return the page's path.

    Args:
        result: what was measured.
        folder: where; made if it is not there.
        pictures: files in it that the page shows.

    Raises:
        InputError: it cannot be written.
    """
    return write_result(result, page(result, pictures), folder, name_of(result.table, result.protocol, result.rules))


def name_of(number: str, protocol: str, rules: str = "equal") -> str:
    """Return the name of a table's files, without their ending: tables of one number lie beside each other."""
    settings = "" if rules == "equal" else f"-{rules}-settings"
    return f"table{number}{settings}" + ("" if protocol == "likelihood" else f"-{protocol}")


def page(result: TableResult, pictures: Sequence[str] = ()) -> str:
    """Return the page as Markdown."""
    parts = [
        heading(result),
        *(f"![{name}]({name})\n" for name in pictures),
        *(_means(result, kind) for kind in KINDS if any(kind in row.means for row in result.rows.values())),
        *([_versus(result.versus)] if result.versus else []),
        *(_choice(result)),
        how_measured(result),
        *(_task(result, task) for task in result.tasks if task in result.n),
        "## What each row reads and spent\n",
        table(["row", "reads of the target", "before it is known", "on it"], _spent(result)),
        SPENT,
    ]
    ours = [
        row.spent[0] for name, row in result.rows.items() if row.spent and name in ROWS and ROWS[name].kind == "stage"
    ]
    if any(spent.tokens is not None for spent in ours):
        parts.append(OURS)
    runs = [one.spent[1] for name in WHOLE if (one := result.rows.get(name)) and one.spent]
    if any(spent.tokens is not None for spent in runs):
        parts.append(METERED)
    absent = [
        f"- {title(name)} on {task}: {reason}"
        for name, row in result.rows.items()
        for task, reason in row.absent.items()
    ]
    parts += ["## n/a\n", "\n".join(absent) + "\n"] if absent else []
    return "\n".join(parts)


def _means(result: TableResult, kind: str) -> str:
    ranked = result.protocol == "likelihood"
    heads = [
        "row",
        "tasks",
        "accuracy (95 %)",
        *(["plain rule"] if ranked else ["parsable", "right of these"]),
        *(f"paper, {size}" for size in SIZES),
    ]
    rows = []
    for name, row in result.rows.items():
        if (mean := row.means.get(kind)) is not None:
            papers = [average(size, name, in_domain=kind == KINDS[0]) for size in SIZES]
            if ranked:
                told = [_percent(100 * statistics.fmean(row.cells[task].default for task in mean.tasks))]
            else:
                named = parsable_of(row, mean.tasks)
                told = [_parsable(named), _parsable(mean.accuracy / named if named else None)]
            figures = [share(mean.accuracy, mean.ci95), *told, *map(_percent, papers)]
            rows.append([title(name), str(len(mean.tasks)), *figures])
        else:
            rows.append([title(name), "0", "n/a", *([""] * (len(heads) - 3))])
    return f"## Mean over the tasks {kind}\n\n{_guessing(result, kind)}\n\n{table(heads, rows)}"


def _guessing(result: TableResult, kind: str) -> str:
    """Return what guessing comes to on the tasks of a kind."""
    chances = [chance for task, chance in result.chance.items() if result.kinds[task] == kind]
    unshown = "" if all(chances) else ", none right where no choices are shown"
    return f"{count(len(chances), 'task')}; guessing {100 * statistics.fmean(chances):.1f} % on average{unshown}."


def _versus(every: Sequence[Versus]) -> str:
    heads = ["one", "minus the other", "tasks", "points (95 %)", "p (Holm)", "by the plain rule (95 %)"]
    rows = [
        [
            title(one.row),
            title(one.other),
            f"{len(one.tasks)} {one.kind}",
            with_interval(one.accuracy, one.ci95),
            f"{one.holm:.3f}",
            "" if one.plain is None or one.plain_ci95 is None else with_interval(one.plain, one.plain_ci95),
        ]
        for one in every
    ]
    if all(one.plain is None for one in every):
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    return f"## Comparisons, on the tasks that both rows have\n\n{table(heads, rows)}"


def _choice(result: TableResult) -> list[str]:
    one = result.choice
    if one is None:
        return []
    named = "; ".join(f"{title(row)}, n/a on {n} of the tasks" for row, n in not_chosen(result).items())
    left_out = f" Left out, since only what every task has can be chosen: {named}." if named else ""
    best = table(["task", "best"], [[task, title(row)] for task, row in one.best.items()])
    return [
        "## Another row for each task\n",
        f"Of the paper's, best over all tasks: {title(one.single)}. Choosing for each task instead of taking one for "
        "all, both chosen on one half of the test questions and judged on the other: "
        f"{with_interval(one.gain, one.ci95)} points.{left_out}\n",
        best,
    ]


def not_chosen(result: TableResult) -> dict[str, int]:
    """Return the rows that were to be chosen from and have no figure on some tasks, with the number of these."""
    rows = [row for row in TABLES[result.table].chosen if row in result.rows]
    missing = {row: sum(task not in result.rows[row].cells for task in result.n) for row in rows}
    return {row: n for row, n in missing.items() if n}


def _task(result: TableResult, task: str) -> str:
    written = result.protocol == "generate"
    heads = ["row", "accuracy (95 %)", *(["parsable"] if written else ["plain rule", "log-loss"]), "seeds", "at chance"]
    chance = result.chance[task]
    rows = [
        [title(name), *_cell(row, task, chance, written=written), *(_percent(figure(s, name, task)) for s in SIZES)]
        for name, row in result.rows.items()
    ]
    body = table([*heads, *(f"paper, {size}" for size in SIZES)], rows)
    guessing = f"guessing {100 * chance:.1f} %" if chance else "no choices are shown"
    return f"## {task}\n\n{result.kinds[task]}, {result.n[task]} questions; {guessing}.\n\n{body}"


def _cell(row: RowResult, task: str, chance: float, *, written: bool) -> list[str]:
    cell: Cell | None = row.cells.get(task)
    if cell is None:
        return ["n/a", *([""] * (3 if written else 4))]
    more = [_parsable(cell.parsable)] if written else [f"{100 * cell.default:.1f}", f"{cell.log_loss:.4f}"]
    at_chance = f"{cell.at_chance} of {cell.seeds}" if chance else ""
    return [share(cell.accuracy, cell.ci95), *more, str(cell.seeds), at_chance]


def _spent(result: TableResult) -> list[list[str]]:
    rows = []
    for name, row in result.rows.items():
        counted = name in ROWS and ROWS[name].kind == "baseline"
        costs = [_cost(spent, counted=counted) for spent in row.spent or ()] or ["", ""]
        rows.append([title(name), ROWS[name].reads if name in ROWS else "", *costs])
    return rows


def _cost(spent: Spent, *, counted: bool) -> str:
    """Return what was spent in words; the steps of the project's own rows are not counted."""
    steps = f"{spent.steps:,} steps" if counted else None
    tokens = None if spent.tokens is None else f"{spent.tokens:,} tokens"
    seconds = None if spent.seconds is None else f"{spent.seconds:.0f} s"
    return ", ".join(part for part in (steps, tokens, seconds) if part) or "not kept"


def share(value: float, ci95: Sequence[float]) -> str:
    """Return an accuracy with its interval, in per cent."""
    return f"{100 * value:.1f} ({100 * ci95[0]:.1f}–{100 * ci95[1]:.1f})"


def parsable_of(row: RowResult, tasks: Sequence[str]) -> float | None:
    """Return the share of a row's written answers that are any, the mean over tasks; None of ranked ones."""
    cells = [row.cells[task] for task in tasks if task in row.cells]
    shares = [cell.parsable for cell in cells if cell.parsable is not None]
    return statistics.fmean(shares) if shares else None


def _parsable(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
