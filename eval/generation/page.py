"""``generation.md`` with its pictures and figures: what the measurement said, for people."""

import json
from pathlib import Path
from typing import Any

from cao.errors import InputError
from cao.files import write_atomic
from eval.generation.scores import CONTROLS, JUDGED
from eval.pages.markdown import table
from eval.pages.pictures import changes, matrices

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


def write_page(result: dict[str, Any], folder: Path) -> Path:
    """Write ``generation.md``, ``generation.json`` and two pictures, and return the page's path.

    Args:
        result: what ``analyse`` returned, with the ``command``.
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
        _cosines(result["cosines"]),
        _cost(result["cost"]),
    ]
    titles = {"whole": "ΔW", "centred": "ΔW less the mean over tasks"}
    grids = {title: result["cosines"][key]["matrix"] for key, title in titles.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        changes(result["tasks"], folder / "generation-changes.svg")
        matrices(result["cosines"]["tasks"], grids, folder / "generation-cosines.svg")
        write_atomic(folder / "generation.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        write_atomic(page, "\n".join(parts))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None
    return page


def _between(interval: list[float], digits: int, scale: float = 1) -> str:
    low, high = interval
    return f"{scale * low:+.{digits}f} to {scale * high:+.{digits}f}"


def _head(result: dict[str, Any]) -> str:
    about = result["consolidation"]
    kinds = "".join(f"- **{name}**: {told}.\n" for name, told in KINDS.items())
    return f"""# Generated and aligned adapters, judged

Made on {result["measured"]} by

    {result["command"]}

{about["model"]} (sha256 {about["model_sha256"][:12]}…), preset `{about["preset"]}`, seed {about["seed"]}, \
{len(about["sources"])} sources; at most {result["limit"]} questions of each task's `{result["split"]}` part, support \
prompts of seeds {", ".join(map(str, result["seeds"]))}, device {result["device"]}; the aligner was trained towards \
`{result["aligner_target"]}`. Lower NLL is better. Intervals are 95 %: a paired bootstrap of {result["bootstrap"]} \
draws over questions and, where there are several, seeds.

{kinds}"""


def _aims(result: dict[str, Any]) -> str:
    aims, total = result["aims"], result["aims"]["tasks"]
    rows = []
    for kind in JUDGED:
        said = aims[kind]
        rows.append([f"{kind}: gold NLL below base", f"{len(said['below_base'])} of {total}", _surely(said)])
        rows.append([f"{kind}: accuracy against base, mean over tasks", f"{said['points']:+.1f} points", ""])
        worse = ", ".join(said["worse"]) or "none"
        rows.append([f"{kind}: tasks more than 1 point below base", str(len(said["worse"])), worse])
        for control in CONTROLS:
            below, surely = said["below"][control], said["surely_below"][control]
            rows.append([f"{kind}: NLL below {control}", f"{len(below)} of {total}", f"{len(surely)} surely"])
    for name, found in aims["recovery"].items():
        if found:
            ci = _between(found["ci95"], 2) if found["ci95"] else "no interval"
            rows.append([f"recovery ratio, {name}", f"{found['ratio']:.2f}", f"{ci}, {len(found['tasks'])} tasks"])
    return f'## In short\n\n"Surely" means that the whole interval lies below.\n\n{table(["", "", ""], rows)}'


def _surely(said: dict[str, Any]) -> str:
    return f"{len(said['surely_below_base'])} surely"


def _tasks(result: dict[str, Any]) -> str:
    parts = ["## Task by task\n"]
    for task, said in result["tasks"].items():
        place = "in domain, never seen by its generator" if said["in_domain"] else "out of domain"
        nearest = ", ".join(dict.fromkeys(said["nearest"].values()))
        wrong = ", ".join(said["wrong"])
        rows = [_row(name, row) for name, row in said["rows"].items()]
        tests = said["tests"]
        tested = "; ".join(
            f"{kind}: McNemar p = {tests[kind]['mcnemar_p']:.3g} (first seed, {tests[kind]['gained']} gained, "
            f"{tests[kind]['lost']} lost), NLL lower p = {tests[kind]['nll_p']:.2g}"
            for kind in JUDGED
        )
        heads = ["", "gold NLL per character", "change (95 %)", "accuracy", "change in points (95 %)"]
        parts.append(
            f"### {task}\n\n{place} (`{said['variant']}`), {said['n']} questions; nearest source {nearest}; wrong "
            f"prompts from {wrong}.\n\n{table(heads, rows)}\n{tested}.\n"
        )
    return "\n".join(parts)


def _row(name: str, row: dict[str, Any]) -> list[str]:
    low, high = row["ci95"]
    cells = [name, f"{row['nll']:.4f}"]
    accuracy = f"{100 * row['accuracy']:.1f} % ({100 * low:.0f}–{100 * high:.0f})"
    if "change" not in row:
        return [*cells, "", accuracy, ""]
    change = row["change"]
    return [
        *cells,
        _difference(change),
        accuracy,
        f"{100 * change['accuracy']:+.1f} ({_between(change['accuracy_ci95'], 1, 100)})",
    ]


def _average(result: dict[str, Any]) -> str:
    rows = []
    for name, said in result["average"].items():
        cells = [name, f"{said['nll']:.4f}", f"{100 * said['accuracy']:.1f} %", f"{said['log_loss']:.4f}"]
        change = said.get("change")
        if change:
            cells.append(_difference(change))
            points, ci = 100 * change["accuracy"], _between(change["accuracy_ci95"], 1, 100)
            cells.append(f"{points:+.1f} ({ci})")
        rows.append([*cells, *[""] * (6 - len(cells))])
    heads = ["mean over tasks", "gold NLL per character", "accuracy", "choice log-loss", "NLL change", "points"]
    return f"## Over all tasks\n\n{table(heads, rows)}"


def _versus(result: dict[str, Any]) -> str:
    parts = ["## Against the controls\n\nDifference of the gold NLL per character; negative is better.\n"]
    for kind in JUDGED:
        others = list(next(iter(result["tasks"].values()))["versus"][kind])
        rows = [
            [task, *(_difference(said["versus"][kind][o]) for o in others)] for task, said in result["tasks"].items()
        ]
        parts.append(f"{table([f'{kind} minus', *others], rows)}")
    return "\n".join(parts)


def _difference(change: dict[str, Any]) -> str:
    return f"{change['nll']:+.4f} ({_between(change['nll_ci95'], 3)})"


def _recovery(result: dict[str, Any]) -> str:
    rows = []
    for task, said in result["tasks"].items():
        if said["recovery"]:
            cells = [f"{r['ratio']:.2f} ({_between(r['ci95'], 2)})" if r else "–" for r in said["recovery"].values()]
            rows.append([task, *cells])
    if not rows:
        return "## Recovery ratio\n\nNone of these tasks was a source.\n"
    told = "(NLL of base − NLL of the adapter) / (NLL of base − NLL of the task's own checkpoint), gold answers."
    return f"## Recovery ratio\n\n{told}\n\n{table(['', 'seen', *JUDGED], rows)}"


def _cosines(found: dict[str, Any]) -> str:
    rows = []
    for key, title in (("whole", "ΔW"), ("centred", "ΔW less the mean over tasks")):
        for place in ("within", "between"):
            spread = found[key][place]
            if spread:
                values = [f"{spread[name]:.3f}" for name in ("mean", "low", "high")]
                rows.append([f"{title}, {place} tasks", *values])
    told = (
        f"Two adapters of each task, from disjoint halves of its support prompts (seed {found['seed']}), made by the "
        f"generator `{found['variant']}`."
    )
    picture = "![Cosines between tasks](generation-cosines.svg)"
    return f"## How alike adapters are\n\n{told}\n\n{table(['cosine', 'mean', 'lowest', 'highest'], rows)}\n{picture}\n"


def _cost(found: dict[str, Any]) -> str:
    seconds, flops = found["seconds"], found["flops"]
    rows = [[stage, f"{seconds[stage]:.3f} s", f"{flops[stage] / 1e9:,.1f}"] for stage in seconds]
    timed = "its whole length timed" if found["whole"] else f"{found['timed_steps']} of its steps timed"
    told = (
        f"{found['prompts']} prompts of {found['task']} (task vector from {found['vector_prompts']}), median of "
        f"{found['repetitions']}; training {found['steps']} steps of {found['batch']}, {timed}. One process, one "
        "machine; loading is in neither."
    )
    ratios = f"An aligned adapter is **{found['time_ratio']:,.0f}** times cheaper in time and \
**{found['flop_ratio']:,.0f}** times in operations than training one."
    return f"## What it costs\n\n{told}\n\n{table(['', 'time', 'GFLOP'], rows)}\n{ratios}\n"
