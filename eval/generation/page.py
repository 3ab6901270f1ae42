"""``generation.md`` with its pictures and figures: what the measurement said, for people."""

import json
from pathlib import Path

from cao.errors import InputError
from cao.files import write_atomic
from eval.bench.cost import Cost
from eval.generation.pictures import changes, matrices
from eval.generation.results import Change, Cosines, GenerationResult, Interval, KindAims, KindScore, TaskResult
from eval.generation.scores import CONTROLS, JUDGED
from eval.pages.markdown import table

KINDS = {
    "base": "the base model",
    "generated": "made from 32 support prompts by the generator that never saw the task",
    "aligned": "the same after alignment to those prompts",
    "mean": "mean of that generator's source checkpoints, A and B separately",
    "nearest": "checkpoint of the source whose prompts are nearest by embedding",
    "union": "Union-Train: one adapter trained on all sources, by the recipe of one checkpoint",
    "wrong": "generated from another task's prompts",
    "shuffled": "generated from the same prompts with all their words in another order",
    "seen": "made by the generator that was trained on the task too",
    "checkpoint": "trained on the task itself",
}


def write_page(result: GenerationResult, folder: Path) -> Path:
    """Write ``generation.md``, ``generation.json`` and two pictures, and return the page's path.

    Args:
        result: what was measured.
        folder: where; made if it is not there.

    Raises:
        InputError: it cannot be written.
    """
    page = folder / "generation.md"
    parts = [
        _head(result),
        _aims(result),
        "![Change of the gold NLL per character, task by task](generation-changes.svg)\n",
        _tasks(result),
        _average(result),
        _versus(result),
        _recovery(result),
        _cosines(result.cosines),
        _cost(result.cost),
    ]
    grids = {"ΔW": result.cosines.whole.matrix, "ΔW less the mean over tasks": result.cosines.centred.matrix}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        changes(result.tasks, folder / "generation-changes.svg")
        matrices(result.cosines.tasks, grids, folder / "generation-cosines.svg")
        figures = json.dumps(result.model_dump(mode="json"), indent=1, ensure_ascii=False)
        write_atomic(folder / "generation.json", f"{figures}\n")
        write_atomic(page, "\n".join(parts))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None
    return page


def _between(interval: Interval, digits: int, scale: float = 1) -> str:
    low, high = interval
    return f"{scale * low:+.{digits}f} to {scale * high:+.{digits}f}"


def _head(result: GenerationResult) -> str:
    about = result.consolidation
    kinds = "".join(f"- **{name}**: {description}.\n" for name, description in KINDS.items())
    return f"""# Generated and aligned adapters, judged

Made on {result.measured} by

    {result.command}

{about.model} (sha256 {about.model_sha256[:12]}…), preset `{about.preset}`, seed {about.seed}, \
{len(about.sources)} sources; at most {result.limit} questions of each task's `{result.split}` part, support \
prompts of seeds {", ".join(map(str, result.seeds))}, device {result.device}; the aligner was trained towards \
`{result.aligner_target}`. Lower NLL is better. Intervals are 95 %: a paired bootstrap of {result.bootstrap} \
draws over questions and, where there are several, seeds.

{kinds}"""


def _aims(result: GenerationResult) -> str:
    rows = []
    for kind, counts in result.aims.kinds().items():
        rows += _kind_rows(kind, counts, result.aims.tasks)
    for name, mean in result.aims.recovery.items():
        if mean:
            ci = _between(mean.ci95, 2) if mean.ci95 else "no interval"
            rows.append([f"recovery ratio, {name}", f"{mean.ratio:.2f}", f"{ci}, {len(mean.tasks)} tasks"])
    return f'## In short\n\n"Surely" means that the whole interval lies below.\n\n{table(["", "", ""], rows)}'


def _kind_rows(kind: str, counts: KindAims, total: int) -> list[list[str]]:
    worse = ", ".join(counts.worse) or "none"
    rows = [
        [
            f"{kind}: gold NLL below base",
            f"{len(counts.below_base)} of {total}",
            f"{len(counts.surely_below_base)} surely",
        ],
        [f"{kind}: accuracy against base, mean over tasks", f"{counts.points:+.1f} points", ""],
        [f"{kind}: tasks more than 1 point below base", str(len(counts.worse)), worse],
    ]
    for control in CONTROLS:
        below, surely = counts.below[control], counts.surely_below[control]
        rows.append([f"{kind}: NLL below {control}", f"{len(below)} of {total}", f"{len(surely)} surely"])
    return rows


def _tasks(result: GenerationResult) -> str:
    return "\n".join(["## Task by task\n", *(_task(name, task) for name, task in result.tasks.items())])


def _task(name: str, task: TaskResult) -> str:
    place = "in domain, never seen by its generator" if task.in_domain else "out of domain"
    nearest = ", ".join(dict.fromkeys(task.nearest.values()))
    tested = "; ".join(
        f"{kind}: McNemar p = {task.tests[kind].mcnemar_p:.3g} (first seed, {task.tests[kind].gained} gained, "
        f"{task.tests[kind].lost} lost), NLL lower p = {task.tests[kind].nll_p:.2g}"
        for kind in JUDGED
    )
    heads = ["", "gold NLL per character", "change (95 %)", "accuracy", "change in points (95 %)"]
    rows = [_row(kind, score) for kind, score in task.rows.items()]
    return (
        f"### {name}\n\n{place} (`{task.variant}`), {task.n} questions; nearest source {nearest}; wrong "
        f"prompts from {', '.join(task.wrong)}.\n\n{table(heads, rows)}\n{tested}.\n"
    )


def _row(kind: str, score: KindScore) -> list[str]:
    low, high = score.ci95
    accuracy = f"{100 * score.accuracy:.1f} % ({100 * low:.0f}–{100 * high:.0f})"
    nll, points = _changed(score.change)
    return [kind, f"{score.nll:.4f}", nll, accuracy, points]


def _changed(change: Change | None) -> tuple[str, str]:
    """Return a change of the NLL and of the accuracy, nothing for the base model's."""
    if change is None:
        return "", ""
    return _difference(change), f"{100 * change.accuracy:+.1f} ({_between(change.accuracy_ci95, 1, 100)})"


def _difference(change: Change) -> str:
    return f"{change.nll:+.4f} ({_between(change.nll_ci95, 3)})"


def _average(result: GenerationResult) -> str:
    rows = [
        [kind, f"{mean.nll:.4f}", f"{100 * mean.accuracy:.1f} %", f"{mean.log_loss:.4f}", *_changed(mean.change)]
        for kind, mean in result.average.items()
    ]
    heads = ["mean over tasks", "gold NLL per character", "accuracy", "choice log-loss", "NLL change", "points"]
    return f"## Over all tasks\n\n{table(heads, rows)}"


def _versus(result: GenerationResult) -> str:
    parts = ["## Against the controls\n\nDifference of the gold NLL per character; negative is better.\n"]
    for kind in JUDGED:
        others = list(next(iter(result.tasks.values())).versus[kind])
        rows = [
            [name, *(_difference(task.versus[kind][other]) for other in others)] for name, task in result.tasks.items()
        ]
        parts.append(f"{table([f'{kind} minus', *others], rows)}")
    return "\n".join(parts)


def _recovery(result: GenerationResult) -> str:
    rows = []
    for name, task in result.tasks.items():
        if task.recovery:
            ratios = [
                f"{each.ratio:.2f} ({_between(each.ci95, 2)})" if each and each.ci95 else "–"
                for each in task.recovery.values()
            ]
            rows.append([name, *ratios])
    if not rows:
        return "## Recovery ratio\n\nNone of these tasks was a source.\n"
    note = "(NLL of base − NLL of the adapter) / (NLL of base − NLL of the task's own checkpoint), gold answers."
    return f"## Recovery ratio\n\n{note}\n\n{table(['', 'seen', *JUDGED], rows)}"


def _cosines(cosines: Cosines) -> str:
    rows = []
    for alike, title in ((cosines.whole, "ΔW"), (cosines.centred, "ΔW less the mean over tasks")):
        for place, spread in (("within", alike.within), ("between", alike.between)):
            if spread:
                values = [f"{value:.3f}" for value in (spread.mean, spread.low, spread.high)]
                rows.append([f"{title}, {place} tasks", *values])
    note = (
        f"Two adapters of each task, from disjoint halves of its support prompts (seed {cosines.seed}), made by the "
        f"generator `{cosines.variant}`."
    )
    picture = "![Cosines between tasks](generation-cosines.svg)"
    return f"## How alike adapters are\n\n{note}\n\n{table(['cosine', 'mean', 'lowest', 'highest'], rows)}\n{picture}\n"


def _cost(cost: Cost) -> str:
    rows = [[stage, f"{cost.seconds[stage]:.3f} s", f"{cost.flops[stage] / 1e9:,.1f}"] for stage in cost.seconds]
    timed = "its whole length timed" if cost.whole else f"{cost.timed_steps} of its steps timed"
    note = (
        f"{cost.prompts} prompts of {cost.task} (task vector from {cost.vector_prompts}), median of "
        f"{cost.repetitions}; training {cost.steps} steps of {cost.batch}, {timed}. One process, one "
        "machine; loading is in neither."
    )
    ratios = f"An aligned adapter is **{cost.time_ratio:,.0f}** times cheaper in time and \
**{cost.flop_ratio:,.0f}** times in operations than training one."
    return f"## What it costs\n\n{note}\n\n{table(['', 'time', 'GFLOP'], rows)}\n{ratios}\n"
