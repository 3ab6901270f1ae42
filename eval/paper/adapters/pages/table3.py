"""The page of Table 3 and Figure 2."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from eval.pages.markdown import table, with_interval
from eval.paper.adapters.pages import pictures
from eval.paper.adapters.pages.wording import absences, differences, header, verdict_table
from eval.paper.adapters.published import SIZE, PublishedCosine
from eval.paper.adapters.results import Alike, Difference, GradientRow, Table3Result
from eval.paper.adapters.verdicts import one_training, within_one_training


def table3_parts(result: Table3Result, folder: Path) -> list[str]:
    """Draw the picture and return the page's parts.

    Args:
        result: what was measured.
        folder: of the picture.
    """
    grids = {row.title: (row.tasks, row.matrix) for row in result.rows.values() if len(row.tasks) > 1}
    if grids:
        pictures.matrices(grids, folder / "figure2.svg")
    n = result.batches * result.batch
    half = (result.batches + 1) // 2 * result.batch
    told = f"""The gradient is that of the mean cross-entropy of the gold answers' tokens, by A and B of every module \
that carries LoRA; {n} questions a task and seed, of the part `{result.part}`, at most {result.row_tokens} tokens \
each. It is taken at the adapter that the row names. The paper does not say at which weights, of which loss, or over \
which modules; its figures stand beside the rows that give a task its weights before a gradient of it is seen. No \
generator was trained on the task that it serves; Table 2 names the tasks whose problems are in a source in other \
words. `q, v, o` are the modules that MAML-en-LLM trains. Few questions make a noisy gradient: “halves” compares \
{half} questions of a task with {n - half} others, of the same task or of another, and no two tasks can be expected to \
be more alike than a task is to itself. Intervals are 95 %, a bootstrap over tasks. {_trainings(result)}
"""
    heads = [
        "gradients at",
        "tasks",
        "mean (95 %)",
        "± over pairs",
        "lowest to highest",
        "one training",
        "q, v, o",
        "halves: tasks",
        "itself",
    ]
    return [
        header("The paper's Table 3 and Figure 2, measured here", result),
        told,
        verdict_table(result.verdicts),
        "## Cosine between the gradients of different tasks\n",
        table([*heads, f"paper, {SIZE}"], [_gradients(row, result.served) for row in result.rows.values()]),
        *_reads(result),
        *differences(result.differences, _points),
        *(["![Cosines between the tasks' gradients](figure2.svg)\n"] if grids else []),
        *absences({row.title: row.absent for row in result.rows.values()}),
    ]


def _trainings(result: Table3Result) -> str:
    """Say which pairs of tasks one training serves: those of other pairs have their gradients at other weights."""
    of_one = one_training(tuple(result.served), result.served)
    every = len(result.served) * (len(result.served) - 1) // 2
    return (
        f"A generator, and a training of MAML-en-LLM on its sources, serves the tasks that it never saw: there are "
        f"{len(set(result.served.values()))}. “one training” is the mean over the {len(of_one)} of {every} pairs whose "
        "two tasks the same one serves; in the other pairs the gradients are taken at weights of two trainings."
    )


def _gradients(row: GradientRow, served: Mapping[str, str]) -> list[str]:
    paper = _published(row.paper) if row.paper else ""
    if row.between is None:
        return [row.title, str(len(row.tasks)), "n/a", *[""] * 6, paper]
    each = row.between
    halves = ["" if value is None else f"{value:.3f}" for value in (row.halves, row.within)]
    shared = _alike(row.shared or each)
    same = within_one_training(row, served)
    return [row.title, str(len(row.tasks)), _alike(each), f"{each.deviation:.3f}", f"{each.low:.3f} to {each.high:.3f}",
            f"{fmean(same):.3f}" if same else "", shared, *halves, paper]  # fmt: skip


def _alike(each: Alike) -> str:
    return with_interval(each.mean, each.ci95, ".3f", scale=1)


def _published(paper: PublishedCosine) -> str:
    return f"{paper.mean:.3f} ± {paper.deviation:.3f} ({paper.low:.3f}–{paper.high:.3f})"


def _reads(result: Table3Result) -> list[str]:
    said = [f"{row.title}: {row.reads}." for row in result.rows.values() if row.reads]
    return [f"{' '.join(said)}\n"] if said else []


def _points(found: Difference) -> str:
    return with_interval(found.value, found.ci95, "+.3f", scale=1)
