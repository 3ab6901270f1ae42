"""``policies.md`` with its pictures and figures: which policy to trust, for people."""

import json
from pathlib import Path
from typing import Any

from cao.errors import InputError
from cao.files import canonical_json, write_atomic
from cao.strategies import FAMILIES
from eval.pages.markdown import table
from eval.pages.pictures import first_attempts, landscape
from eval.policies.verdicts import RANDOM, judge, versus
from policies.grid import grid

GROUPS = {"held_out": "Tasks that the policy was not trained on", "practised": "Tasks that it was trained on"}
TIMES = 1.5
"""What the trained policy's first attempts are to be, in those of the random one."""


def write_page(result: dict[str, Any], folder: Path) -> Path:
    """Write ``policies.md``, ``policies.json`` and two pictures, and return the page's path.

    Args:
        result: what ``analyse`` returned, with the ``command``.
        folder: where; made if it is not there.

    Raises:
        InputError: it cannot be written.
    """
    page = folder / "policies.md"
    groups = {
        group: [name for name, task in result["tasks"].items() if task["held_out"] == (group == "held_out")]
        for group in GROUPS
    }
    judged = {group: judge(result, tasks) for group, tasks in groups.items() if tasks}
    aim = _aim(result, groups["held_out"], judged.get("held_out", {}))
    points = [canonical_json(point.canonical()) for point in grid(FAMILIES)]
    parts = [
        _head(result),
        _told(aim),
        *(_group(result, group, judged[group]) for group in judged),
        "![First attempts that improve the model](policies-first.svg)\n",
        _curve(result),
        _landscape(result, points),
        "![Share of seeds in which each point of the grid improves the model](policies-landscape.svg)\n",
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        panels = {GROUPS[group]: rows for group, rows in judged.items()}
        first_attempts(panels, list(result["policies"]), folder / "policies-first.svg")
        landscape(
            list(result["tasks"]),
            [json.loads(p) for p in points],
            _shares(result, points),
            folder / "policies-landscape.svg",
        )
        told = {**result, "judged": judged, "aim": aim}
        write_atomic(folder / "policies.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
        write_atomic(page, "\n".join(parts))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None
    return page


def _head(result: dict[str, Any]) -> str:
    tasks = dict.fromkeys(task for one in result["trainings"].values() for task in one["settings"]["tasks"])
    rows = "".join(f"- **{name}**: {told}.\n" for name, told in result["rows"].items())
    return f"""# Policies judged side by side

Made on {result["measured"]} by

    {result["command"]}

{result["model"]} (sha256 {result["model_sha256"][:12]}…), as the model that is adapted and as the one that decides; \
trained on {", ".join(tasks)}; device \
{result["device"]}. A situation is a task and a seed at the point where a run's loop begins: {result["support"]} \
support prompts, {result["reward"]} reward questions, at most {result["limit"]} test questions, seeds \
{", ".join(map(str, result["seeds"]))}. A strategy improves the model where the run's rule `{result["rule"]}` accepts \
it on the reward questions. Where a policy draws, {result["draws"]} first attempts are looked at in each situation; \
its loop has at most {result["attempts"]} attempts, each with the history of those before. Intervals are 95 %: a \
bootstrap over tasks, and over seeds within tasks. Validity without the grammar: {result["free"]} texts a task.

{rows}"""


def _aim(result: dict[str, Any], tasks: list[str], judged: dict[str, Any]) -> dict[str, Any]:
    """Return whether the last trained policy reaches what it is to reach on held-out tasks."""
    trained = list(result["policies"])
    if not trained or not tasks:
        return {}
    name = trained[-1]
    fixed = [other for other in judged if other.startswith(("always", "paper"))]
    against = {other: versus(result, name, other, tasks) for other in (RANDOM, "untrained", *fixed)}
    random = against[RANDOM]
    ratio = random["ratio"] if random else None
    return {
        "policy": name,
        "against": against,
        "times_random": ratio,
        "reached_random": bool(ratio is not None and ratio >= TIMES),
        "above_every_fixed": all(found["difference"] > 0 for found in (against[o] for o in fixed) if found),
    }


def _told(aim: dict[str, Any]) -> str:
    if not aim:
        return "## In short\n\nNo task of this table was held out from training.\n"
    rows = []
    for other, found in aim["against"].items():
        if found:
            ratio = "–"
            if found["ratio"] is not None:
                low, high = found["ratio_ci95"]
                ratio = f"{found['ratio']:.2f} ({low:.2f} to {high:.2f})"
            low, high = found["ci95"]
            difference = f"{100 * found['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
            rows.append([other, difference, ratio, f"{found['p']:.3g}", str(len(found["tasks"]))])
    times = "–" if aim["times_random"] is None else f"{aim['times_random']:.2f}"
    said = (
        f"First attempts of **{aim['policy']}** on held-out tasks succeed **{times}** times as often as random ones "
        f"(aim {TIMES}: {'reached' if aim['reached_random'] else 'missed'}); above every fixed choice: "
        f"{'yes' if aim['above_every_fixed'] else 'no'}."
    )
    heads = [f"{aim['policy']} against", "difference in points (95 %)", "ratio (95 %)", "p", "tasks"]
    note = "p is two-sided, by flipping the signs of situations' differences, as if seeds of one task were independent."
    return f"## In short\n\n{said}\n\n{table(heads, rows)}\n{note}\n"


def _group(result: dict[str, Any], group: str, judged: dict[str, Any]) -> str:
    rows = []
    for name, said in judged.items():
        first, (low, high) = said["first"]["mean"], said["first"]["ci95"]
        against = said["against_random"]
        valid = result["valid"].get(name)
        rows.append(
            [
                name,
                f"{100 * first:.0f} % ({100 * low:.0f}–{100 * high:.0f})",
                f"{against['ratio']:.2f}" if against and against["ratio"] is not None else "",
                f"{said['attempts']['mean']:.1f}",
                f"{100 * said['improved']['mean']:.0f} %",
                f"{said['reward_loss']['mean']:+.4f} / {100 * said['reward_accuracy']['mean']:+.1f}",
                _gain(said),
                f"{100 * valid[0] / valid[1]:.0f} %" if valid else "100 %",
            ]
        )
    tasks = next(iter(judged.values()))["tasks"]
    heads = [
        "",
        "first attempt improves (95 %)",
        "times random",
        f"attempts (of {result['attempts']})",
        "improved in the loop",
    ]
    heads += ["reward: log-loss / points", "test: log-loss (95 %) / points (95 %)", "valid without grammar"]
    told = (
        f"{', '.join(tasks)}; {len(tasks)} tasks × {len(result['seeds'])} seeds. Gains are those of what the loop "
        "adopts, 0 where it adopts nothing and the model stays as it is; a loop without success counts as all its "
        "attempts."
    )
    return f"## {GROUPS[group]}\n\n{told}\n\n{table(heads, rows)}"


def _gain(said: dict[str, Any]) -> str:
    loss, points = said["test_loss"], said["test_accuracy"]
    (low, high), (worst, best) = loss["ci95"], points["ci95"]
    return (
        f"{loss['mean']:+.4f} ({low:+.4f} to {high:+.4f}) / "
        f"{100 * points['mean']:+.1f} ({100 * worst:+.1f} to {100 * best:+.1f})"
    )


def _curve(result: dict[str, Any]) -> str:
    parts = [
        "## The trainings' own samples\n",
        "Samples that improve the model; iteration 0 is the policy before any (Wilson intervals, as if samples were "
        "independent).\n",
    ]
    for name, training in result["trainings"].items():
        settings, costs, rows = training["settings"], training["costs"], []
        for iteration, sides in enumerate(training["iterations"]):
            for side, said in sides.items():
                if said:
                    low, high = said["ci95"]
                    rate = f"{100 * said['rate']:.0f} % ({100 * low:.0f}–{100 * high:.0f})"
                    won = f"{said['improved']} of {said['drawn']}"
                    rows.append([str(iteration), side.replace("_", " "), won, rate])
        kind = "warm start, then " if settings["warm_start"] else ""
        budget = f", TTL on at most {settings['budget']} prompts" if settings["budget"] else ""
        parts.append(
            f"`{name}`: {kind}{settings['sampling']['most']} samples in each of {settings['seeds']} seeds of "
            f"{len(settings['tasks'])} tasks{budget}; {costs['measured']} of {costs['drawn']} texts had to be "
            f"measured, {costs['questions']} reward questions where a fixed number without racing and memory asks "
            f"{costs['naive_questions']}.\n"
        )
        parts.append(table(["iteration", "tasks", "improved", "rate (95 %)"], rows))
    return "\n".join(parts)


def _shares(result: dict[str, Any], points: list[str]) -> list[list[float]]:
    """Return (T, points) the share of seeds in which a point improves the model."""
    shares = []
    for task in result["tasks"]:
        places = [result["landscape"][f"{task}-{seed}"] for seed in result["seeds"]]
        won = [{canonical_json(point) for said in place.values() for point, _ in said["improve"]} for place in places]
        shares.append([sum(point in one for one in won) / len(won) for point in points])
    return shares


def _landscape(result: dict[str, Any], points: list[str]) -> str:
    rows = []
    for task in result["tasks"]:
        places = [result["landscape"][f"{task}-{seed}"] for seed in result["seeds"]]
        cells = []
        for family in FAMILIES:
            measured = sum(place[family]["measured"] for place in places)
            better = sum(len(place[family]["improve"]) for place in places)
            cells.append(f"{better} of {measured}" if measured else "–")
        starts = ", ".join(result["starts"][f"{task}-{seed}"] for seed in result["seeds"])
        rows.append([task, starts, *cells])
    shares = _shares(result, points)
    won = [100 * sum(row[place] for row in shares) / len(shares) for place in range(len(points))]
    ranked = sorted(zip(won, points, strict=True), reverse=True)[:5]
    best = "; ".join(f"`{point}` in {share:.0f} %" for share, point in ranked)
    told = (
        f"All {len(points)} points of the grid in every situation: how many improve the model over the loop's start, "
        "which is the best of the base model, the generated and the aligned adapter. Most often, over all situations: "
        f"{best}."
    )
    return f"## The landscape of rewards\n\n{told}\n\n{table(['', 'starts', *FAMILIES], rows)}"
