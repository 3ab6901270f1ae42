"""``generation.md`` with its pictures and figures: what the measurement said, for people."""

from collections.abc import Collection
from pathlib import Path

from eval.bench.cost import Cost
from eval.generation.cosines import Cosines
from eval.generation.page.pictures import changes, matrices
from eval.generation.page.tasks import between, changed, far_sources, points, tasks, versus
from eval.generation.recipes import KINDS, NOT_WANTED
from eval.generation.results import Contrast, GenerationResult, Group
from eval.generation.retention import Retention
from eval.pages.markdown import table
from eval.pages.writing import write_result, writing

IN_SHORT = frozenset({"base", "generated", "fused", "no prompts", "union", "nearest", "wrong", "misaligned", "paper"})
"""What the first table holds a judged kind against; what else there is stands with the means over all tasks."""
CONTRASTED = ["", "accuracy, points (95 %)", "gold NLL per character (95 %)", "NLL lower on", "surely"]


def write_page(result: GenerationResult, folder: Path) -> Path:
    """Write ``generation.md``, ``generation.json`` and two pictures, and return the page's path.

    Args:
        result: what was measured.
        folder: where; made if it is not there.

    Raises:
        InputError: it cannot be written.
    """
    parts = [
        _head(result),
        _short(result),
        "![Change of the gold NLL per character, task by task](generation-changes.svg)\n",
        far_sources(result),
        tasks(result),
        _averages(result),
        versus(result),
        _recovery(result),
        _retention(result.retention),
        _cosines(result.cosines),
        _cost(result.cost),
    ]
    grids = {"ΔW": result.cosines.whole.matrix, "ΔW less the mean over tasks": result.cosines.centred.matrix}
    with writing(folder):
        changes(result.tasks, folder / "generation-changes.svg")
        matrices(result.cosines.tasks, grids, folder / "generation-cosines.svg")
    return write_result(result, "\n".join(part for part in parts if part), folder, "generation")


def _head(result: GenerationResult) -> str:
    about, measured = result.consolidation, dict.fromkeys(kind for task in result.tasks.values() for kind in task.rows)
    kinds = "".join(f"- **{name}**: {description}.\n" for name, description in KINDS.items() if name in measured)
    return f"""# Generated and aligned adapters, judged

Made on {result.measured} by

    {result.command}

{about.model} (sha256 {about.model_sha256[:12]}…), {result.dtype}, preset `{about.preset}`, seed {about.seed}, \
{len(about.sources)} sources; at most {result.limit} questions of each task's `{result.split}` part, support \
prompts of seeds {", ".join(map(str, result.seeds))}, device {result.device}{_target(result)}.

The base model and every adapter answer by their own best answer rule each, chosen on at most {result.reward} \
questions of the `reward` part: {result.rule_choice}. Log-losses are at each one's own temperature. Lower NLL is \
better; it does not depend on the rule. "At chance" counts the adapters that are no better than guessing. Intervals \
are 95 %: a paired bootstrap of {result.bootstrap} draws over questions and, where there are several, seeds and tasks.

{kinds}{_missing(result)}"""


def _target(result: GenerationResult) -> str:
    return f"; the aligner was trained towards `{result.aligner_target}`" if result.aligner_target else ""


def _missing(result: GenerationResult) -> str:
    some = {kind for task in result.tasks.values() for kind in task.rows}
    said, unwanted = [], [kind for kind, why in result.missing.items() if why == NOT_WANTED]
    for kind, why in result.missing.items():
        if why != NOT_WANTED:
            said.append(f"{'Some tasks have' if kind in some else 'There is'} no row **{kind}**: {why}.")
    if unwanted:
        said.append(f"Rows that were not asked for: {', '.join(unwanted)}.")
    return f"\n{' '.join(said)}\n" if said else ""


def _short(result: GenerationResult) -> str:
    parts = [
        "## In short\n\nMeans over tasks, each model by its own best answer rule. "
        '"Surely" means that the whole interval lies below.\n',
        table(CONTRASTED, _contrasts(result.every, IN_SHORT)),
        _worse(result.every),
    ]
    if result.far:
        few = f"Where no source shares the subject ({', '.join(result.far.tasks)}):"
        parts += [f"{few}\n", table(CONTRASTED, _contrasts(result.far, IN_SHORT)), _worse(result.far)]
    rows = [
        [name, f"{mean.ratio:.2f}", between(mean.ci95, 2) if mean.ci95 else "–", str(len(mean.tasks))]
        for name, mean in result.recovery.items()
        if mean
    ]
    if rows:
        parts.append(table(["recovery of the checkpoint's gain", "ratio", "95 %", "tasks"], rows))
    return "\n".join(parts)


def _contrasts(group: Group, others: Collection[str]) -> list[list[str]]:
    """Return a row for each judged kind and each of ``others`` that it is held against, as the page lists kinds."""
    return [
        _contrast(f"{kind} − {other}", aims.against[other])
        for kind, aims in group.aims.items()
        for other in KINDS
        if other in aims.against and other in others
    ]


def _contrast(title: str, contrast: Contrast) -> list[str]:
    nll, accuracy, _ = changed(contrast.change)
    lower = f"{len(contrast.below)} of {contrast.tasks}"
    return [title, accuracy, nll, lower, str(len(contrast.surely_below))]


def _worse(group: Group) -> str:
    said = []
    for kind, aims in group.aims.items():
        names = f" ({', '.join(aims.worse)})" if aims.worse else ""
        said.append(f"{kind} on {len(aims.worse)} of {aims.against['base'].tasks} tasks{names}")
    return f"More than 1 point below the base model by its own best rule: {'; '.join(said)}.\n"


def _averages(result: GenerationResult) -> str:
    parts = ["## Over all tasks\n", _average(result.every)]
    if rest := _contrasts(result.every, KINDS.keys() - IN_SHORT):
        parts.append(table(CONTRASTED, rest))
    if result.far:
        parts += [f"## Over the tasks without a source of their subject\n\n{', '.join(result.far.tasks)}.\n"]
        parts += [_average(result.far)]
    return "\n".join(parts)


def _average(group: Group) -> str:
    rows = []
    for kind, mean in group.average.items():
        shares = [f"{100 * mean.default_accuracy:.1f} %", f"{100 * mean.accuracy:.1f} %"]
        nll, accuracy, _ = changed(mean.change)
        rows.append([kind, str(mean.tasks), f"{mean.nll:.4f}", nll, *shares, accuracy, f"{mean.log_loss:.4f}"])
    heads = ["mean over", "tasks", "gold NLL per character", "change", "default rule", "best rule", "change in points"]
    return table([*heads, "log-loss, best rule"], rows)


def _recovery(result: GenerationResult) -> str:
    kinds, rows = list(result.recovery), []
    for name, task in result.tasks.items():
        if task.recovery:
            found = [task.recovery.get(kind) for kind in kinds]
            rows.append([name, *(f"{r.ratio:.2f} ({between(r.ci95, 2)})" if r and r.ci95 else "–" for r in found)])
    if not rows:
        return ""
    note = "(NLL of base − NLL of the adapter) / (NLL of base − NLL of the task's own checkpoint), gold answers."
    return f"## Recovery ratio\n\n{note}\n\n{table(['', *kinds], rows)}"


def _retention(kept: Retention | None) -> str:
    if kept is None:
        return ""
    rows = [
        [
            f"{task} ({kind})",
            points(sum(kept.points[task].values()) / len(kept.points[task])),
            ", ".join(f"{other} {points(value)}" for other, value in _furthest(kept.points[task])),
            f"{kept.perplexity[task]:.2f}",
        ]
        for task, kind in kept.kinds.items()
    ]
    heads = ["adapter of", "other tasks, points", "most lost on", "perplexity"]
    return f"""## What other tasks lose

Each task's adapter of the first seed answers the other tasks, at most {kept.questions} questions each, both sides by \
the base model's own best rule for that task, and reads {kept.passages} passages of novels ({kept.tokens} tokens), \
which no source has. Accuracy changes by **{points(kept.accuracy.mean)}** points \
({between(kept.accuracy.ci95, 1, 100)}) on average; the perplexity of a token is {kept.base_perplexity:.2f} without an \
adapter, and a token costs {kept.prose.mean:+.4f} nats more ({between(kept.prose.ci95, 4)}) with one.

{table(heads, rows)}"""


def _furthest(changes: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(changes.items(), key=lambda pair: pair[1])[:2]


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
    aligned = f"task vector from {cost.vector_prompts}" if cost.vector_prompts else "not aligned"
    note = (
        f"{cost.prompts} prompts of {cost.task} ({aligned}), median of {cost.repetitions}; training {cost.steps} steps "
        f"of {cost.batch}, {timed}. One process, one machine; loading is in neither."
    )
    ratios = f"An adapter from prompts is **{cost.time_ratio:,.0f}** times cheaper in time and \
**{cost.flop_ratio:,.0f}** times in operations than training one."
    return f"## What it costs\n\n{note}\n\n{table(['', 'time', 'GFLOP'], rows)}\n{ratios}\n"
