"""Table 2's page: means with differences first, then task by task, the paper's own figures in their own columns."""

import json
from collections.abc import Sequence
from pathlib import Path

from cao.files import write_atomic
from eval.baselines.baseline import Spent
from eval.baselines.registry import BASELINES
from eval.pages.markdown import table
from eval.paper.published import SIZES, average, figure
from eval.paper.results import Cell, Mean, Row, Table2Result
from eval.paper.rows import KINDS, STAGE_1, STAGES_1_2
from tools.detect_drift.reference import IN_DOMAIN

TITLES = {
    "base": "base model",
    "no_meta_train": "No-Meta-Train",
    "union_train": "Union-Train",
    "mean": "mean of the sources' checkpoints",
    "nearest": "nearest source's checkpoint",
    "maml": "MAML-en-LLM",
    "abmll": "ABMLL",
    "serl": "SeRL",
    "labelled_lora": "LoRA on the reward labels",
    "text_to_lora": "Text-to-LoRA's kind",
    STAGE_1: "CAO-LLM, stage 1",
    STAGES_1_2: "CAO-LLM, stages 1 and 2",
}


def write_page(result: Table2Result, folder: Path) -> Path:
    """Write ``table2.md`` and ``table2.json``, and return the page's path.

    Args:
        result: what was measured.
        folder: where; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = json.dumps(result.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_atomic(folder / "table2.json", f"{figures}\n")
    write_atomic(folder / "table2.md", page(result))
    return folder / "table2.md"


def page(result: Table2Result) -> str:
    """Return the page as Markdown."""
    rules = {
        "equal": "Each baseline may read as many tokens as the generator that serves the task read in training, and "
        "at test time as many as ten steps on 25 labelled questions; its rate is chosen on train questions.",
        "paper": "Baselines have their papers' own settings (Appendix H).",
    }
    seeds = ", ".join(map(str, result.seeds))
    parts = [
        f"""# The paper's Table 2, measured here

Made on {result.measured} by

    {result.command}

{result.model} (sha256 {result.model_sha256[:12]}…), {result.dtype}, device {result.device}, preset \
`{result.preset}`; seeds {seeds}; at most {result.limit} test questions a task. No method saw a task that it is judged \
on, but for what its column “reads” names. Every adapter answers by its own best rule, chosen on {result.reward} \
reward questions; “default” is the plain rule. {rules[result.rules]} Intervals are 95 %: a paired bootstrap over \
questions and seeds; p-values are two-sided, corrected by Holm for all comparisons of the table. The paper's figures \
are those of Qwen2.5-Instruct, parsed from free text, and its means are over its own six tasks.
""",
        *(_averages(result, kind) for kind in KINDS if any(kind in row.means for row in result.rows.values())),
        "## What each may spend\n",
        table(["method", "reads of the target", "before it is known", "on it"], _spent(result)),
        *(_task(result, task) for task in result.tasks),
    ]
    absent = [
        f"- {title(method)} on {task}: {reason}"
        for method, row in result.rows.items()
        for task, reason in row.absent.items()
    ]
    parts += ["## n/a\n", "\n".join(absent) + "\n"] if absent else []
    return "\n".join(parts)


def title(method: str) -> str:
    """Return how a method is called on the page."""
    return TITLES.get(method, method)


def _averages(result: Table2Result, kind: str) -> str:
    heads = ["method", "tasks", "accuracy (95 %)", f"{title(STAGE_1)} minus it", "p (Holm)"]
    rows = []
    for method, row in _ordered(result):
        if kind in row.means:
            papers = [average(size, method, in_domain=kind == KINDS[0]) for size in SIZES]
            rows.append([*_mean(method, row.means[kind]), *map(_percent, papers)])
    body = table([*heads, *(f"paper, {size}" for size in SIZES)], rows)
    return f"## Mean over the tasks {kind}\n\n{body}"


def _ordered(result: Table2Result) -> list[tuple[str, Row]]:
    """Return the rows, baselines as they are registered, the project's method last."""
    known = [*BASELINES, STAGE_1, STAGES_1_2]
    return sorted(result.rows.items(), key=lambda pair: known.index(pair[0]))


def _mean(method: str, mean: Mean) -> list[str]:
    against = mean.against
    change = f"{100 * against.accuracy:+.1f} ({_points(against.ci95)})" if against else ""
    p_value = f"{against.holm:.3f}" if against else ""
    return [title(method), str(len(mean.tasks)), _share(mean.accuracy, mean.ci95), change, p_value]


def _task(result: Table2Result, task: str) -> str:
    kind = KINDS[0] if task in IN_DOMAIN else KINDS[1]
    heads = ["method", "accuracy (95 %)", "default", "log-loss", "seeds", "at chance"]
    rows = [
        [title(method), *_cell(row.cells.get(task)), *(_percent(figure(size, method, task)) for size in SIZES)]
        for method, row in _ordered(result)
    ]
    body = table([*heads, *(f"paper, {size}" for size in SIZES)], rows)
    guessing = f"{100 * result.chance[task]:.1f} %"
    return f"## {task}\n\n{kind}, {result.n[task]} questions; guessing {guessing}.\n\n{body}"


def _cell(cell: Cell | None) -> list[str]:
    if cell is None:
        return ["n/a", "", "", "", ""]
    at = f"{cell.at_chance} of {cell.seeds}"
    return [_share(cell.accuracy, cell.ci95), f"{100 * cell.default:.1f}", f"{cell.log_loss:.4f}", str(cell.seeds), at]


def _spent(result: Table2Result) -> list[list[str]]:
    rows = []
    for method, row in _ordered(result):
        reads = BASELINES[method].reads if method in BASELINES else "prompts"
        rows.append([title(method), reads, *(map(_cost, row.spent) if row.spent else ("", ""))])
    return rows


def _cost(spent: Spent) -> str:
    tokens = "tokens not kept" if spent.tokens is None else f"{spent.tokens:,} tokens"
    seconds = "" if spent.seconds is None else f", {spent.seconds:.0f} s"
    return f"{spent.steps:,} steps, {tokens}{seconds}"


def _share(value: float, ci95: Sequence[float]) -> str:
    return f"{100 * value:.1f} ({100 * ci95[0]:.1f}–{100 * ci95[1]:.1f})"


def _points(ci95: Sequence[float]) -> str:
    return f"{100 * ci95[0]:+.1f} to {100 * ci95[1]:+.1f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
