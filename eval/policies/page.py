"""``policies.md`` with its pictures and figures: which policy to trust, for people."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from agent.train.policy.costs import cost_in_words
from agent.train.policy.report import Empty, Side
from cao.files import canonical_json
from cao.strategy import validate_strategy
from eval.pages.markdown import table, with_interval
from eval.pages.writing import write_result, writing
from eval.policies.pictures import first_attempts, landscape
from eval.policies.results import Aim, PoliciesPage, PoliciesResult, Verdict, Verdicts
from eval.policies.verdicts import (
    BELOW,
    GAIN,
    LEVEL,
    ORACLE,
    OVER_BASE,
    REPAIRED,
    SHARE,
    TIMES,
    USABLE,
    aim_of,
    at_least,
    over_base,
    verdicts,
)
from tools.evaluate.statistics import wilson

GROUPS = {"held_out": "Tasks that the policy was not trained on", "practised": "Tasks that it was trained on"}


def write_page(result: PoliciesResult, folder: Path) -> Path:
    """Write ``policies.md``, ``policies.json`` and two pictures, and return the page's path.

    Args:
        result: what was measured.
        folder: where; made if it is not there.

    Raises:
        InputError: it cannot be written.
    """
    groups = {group: result.names(held_out=group == "held_out") for group in GROUPS}
    judged = {group: verdicts(result, tasks) for group, tasks in groups.items() if tasks}
    aim = aim_of(result, groups["held_out"], judged.get("held_out", {}))
    strategies = [validate_strategy(point) for point in result.points]
    points = [canonical_json(point.canonical()) for point in strategies]
    parts = [
        _head(result),
        in_short(aim),
        *(_group(result, group, judged[group]) for group in judged),
        "![First attempts that improve the model](policies-first.svg)\n",
        *([_from_base(result, groups["held_out"], aim)] if isinstance(aim, Aim) else []),
        *([_trainings(result)] if result.trainings else []),
        _landscape(result, points),
        "![Share of seeds in which each point of the grid improves the model](policies-landscape.svg)\n",
    ]
    whole = PoliciesPage(**dict(result), judged=judged, aim=aim)
    with writing(folder):
        panels = {GROUPS[group]: rows for group, rows in judged.items()}
        first_attempts(panels, list(result.policies), folder / "policies-first.svg")
        landscape(list(result.tasks), strategies, _shares(result, points), folder / "policies-landscape.svg")
    return write_result(whole, "\n".join(parts), folder, "policies")


def _head(result: PoliciesResult) -> str:
    practised = ", ".join(result.practised) or "nothing"
    rows = "".join(f"- **{name}**: {description}.\n" for name, description in result.rows.items())
    return f"""# Policies judged side by side

Made on {result.measured} by

    {result.command}

{result.model} (sha256 {result.model_sha256[:12]}…), as the model that is adapted and as the one that decides; \
trained on {practised}; {result.dtype}, \
device {result.device}. A situation is a task and a seed at the point where a run's loop begins: {result.support} \
support prompts, {result.reward} reward questions, at most {result.limit} test questions, seeds \
{", ".join(map(str, result.seeds))}. A strategy improves the model where the run's rule `{result.rule}` accepts \
it on the reward questions. Where a policy draws, {result.draws} first attempts are looked at in each situation; \
its loop has at most {result.attempts} attempts, each with the history of those before. Intervals are 95 %: a \
bootstrap over tasks, and over seeds within tasks. Validity without the grammar: {result.free} texts a task.

{rows}"""


def in_short(aim: Aim | Empty) -> str:
    """Return the section that says how the trained policy did, on tasks that it was not trained on."""
    if isinstance(aim, Empty):
        return "## In short\n\nNo trained policy, or no task of this table that it was not trained on.\n"
    rows = []
    for other, compared in aim.against.items():
        if compared:
            ratio = "–" if compared.ratio is None else f"{compared.ratio:.2f}"
            if compared.ratio is not None and compared.ratio_ci95 is not None:
                ratio = with_interval(compared.ratio, compared.ratio_ci95, ".2f", scale=1)
            difference = with_interval(compared.difference, compared.ci95)
            tasks = f"{compared.differ} of {len(compared.tasks)}"
            rows.append([other, difference, ratio, f"{compared.p:.3g}", tasks])
    times = "–" if aim.times_random is None else f"{aim.times_random:.2f}"
    reached = "reached" if aim.reached_random else "missed"
    above = "yes" if aim.above_every_fixed else "no"
    sentence = (
        f"First attempts of **{aim.policy}** on held-out tasks succeed **{times}** times as often as random ones "
        f"(aim {TIMES:g}, surely more often: {reached}); surely above every fixed one: {above}."
    )
    heads = [f"{aim.policy} against", "difference in points (95 %)", "ratio (95 %)", "p", "tasks that differ"]
    note = (
        "p is two-sided, by flipping the signs of the tasks' mean differences. `Surely` asks for p ≤ .05 besides the "
        "interval of the difference, which is too short where tasks are few: where fewer than six tasks differ, no p "
        f"is as low. A ratio has an interval where at least {USABLE:.0%} of the draws have a ratio."
    )
    return f"## In short\n\n{sentence}{_gains(aim)}\n\n{table(heads, rows)}\n{note}\n"


def _gains(aim: Aim) -> str:
    """Return what the best point of the grid gains on test, and how much of it the policy's loop finds."""
    policy, oracle, adopted = aim.policy, aim.oracle, aim.adopted
    points, (low, high) = 100 * oracle.mean, oracle.ci95
    met = "reached" if at_least(oracle.mean, GAIN) and low > 0 and aim.oracle_p <= LEVEL else "missed"
    return (
        f" The {ORACLE} gains **{points:+.1f}** points on test ({100 * low:+.1f} to {100 * high:+.1f}; aim "
        f"{100 * GAIN:+g}, surely above 0, p = {aim.oracle_p:.3g}: {met}); the loop of {policy} "
        f"{100 * adopted.mean:+.1f}{_share_found(aim)}.{_over_base(aim)}"
    )


def _share_found(aim: Aim) -> str:
    """Return what share of the oracle's gain the policy's loop finds; nothing where there is no gain."""
    if aim.share is None:
        return ""
    met = "reached" if at_least(aim.share.mean, SHARE) else "missed"
    within = "no interval: many draws have no gain"
    if aim.share.ci95 is not None:
        within = " to ".join(f"{100 * end:.0f}" for end in aim.share.ci95)
    return f", of the {ORACLE}'s gain {100 * aim.share.mean:.0f} % ({within}; aim {100 * SHARE:g} %: {met})"


def _over_base(aim: Aim) -> str:
    """Return what the policy's loop leaves above the base model, on average and on the worst task."""
    over, (low, high) = aim.over_base, aim.over_base.ci95
    task, least = aim.lowest
    met = "reached" if at_least(over.mean, OVER_BASE) and at_least(least, BELOW) else "missed"
    return (
        f" From the base model by its own best rule to what that loop leaves: **{100 * over.mean:+.1f}** points "
        f"({100 * low:+.1f} to {100 * high:+.1f}; p = {aim.over_base_p:.3g}), least on {task}, {100 * least:+.1f} "
        f"(aim {100 * OVER_BASE:+g}, on no task below {100 * BELOW:+g}: {met}).{_repaired(aim)}"
    )


def _repaired(aim: Aim) -> str:
    """Return whether the task that adapters alone make worse is repaired; nothing where it was not measured."""
    if aim.repaired is None:
        return ""
    met = "reached" if at_least(aim.repaired, OVER_BASE) else "missed"
    return f" On {REPAIRED} {100 * aim.repaired:+.1f} (aim {100 * OVER_BASE:+g}: {met}; at chance where marked below)."


def _group(result: PoliciesResult, group: str, judged: Verdicts) -> str:
    rows = []
    for name, verdict in judged.items():
        first, (low, high) = verdict.first.mean, verdict.first.ci95
        against, valid = verdict.against_random, result.valid.get(name)
        rows.append(
            [
                name,
                str(len(verdict.tasks)),
                f"{100 * first:.0f} % ({100 * low:.0f}–{100 * high:.0f})",
                f"{against.ratio:.2f}" if against and against.ratio is not None else "",
                f"{verdict.attempts.mean:.1f}",
                f"{100 * verdict.improved.mean:.0f} %",
                f"{verdict.reward_loss.mean:+.4f} / {100 * verdict.reward_accuracy.mean:+.1f}",
                _gain(verdict),
                f"{100 * valid[0] / valid[1]:.0f} %" if valid else "100 %",
            ]
        )
    tasks = next(iter(judged.values())).tasks
    heads = [
        "",
        "tasks",
        "first attempt improves (95 %)",
        "times random",
        f"attempts (of {result.attempts})",
        "improved in the loop",
    ]
    heads += ["reward: log-loss / points", "test: log-loss (95 %) / points (95 %)", "valid without grammar"]
    note = (
        f"{', '.join(tasks)}; {len(tasks)} tasks × {len(result.seeds)} seeds. Gains are those of what the loop "
        "adopts, 0 where it adopts nothing and the model stays as it is; a loop without success counts as all its "
        "attempts. Rows that always say the same thing have one attempt, and some rows speak of fewer tasks. The "
        "oracle tries every point of the grid at the level of a first attempt, so that it succeeds now and then by "
        "luck; its gain on test is free of that."
    )
    return f"## {GROUPS[group]}\n\n{note}\n\n{table(heads, rows)}"


def _gain(verdict: Verdict) -> str:
    loss, accuracy = verdict.test_loss, verdict.test_accuracy
    return f"{with_interval(loss.mean, loss.ci95, '+.4f', 1)} / {with_interval(accuracy.mean, accuracy.ci95)}"


def _from_base(result: PoliciesResult, tasks: Sequence[str], aim: Aim) -> str:
    """Return the share of right test answers by task: guessing, the base model, the start, and what loops leave."""
    shown = [name for name in ("portfolio", aim.policy, f"{aim.policy}, ranked", ORACLE) if name in result.cells]
    rows = []
    for task in tasks:
        before = [result.untouched[f"{task}-{seed}"] for seed in result.seeds]
        n, guessing = min(one.n for one in before), fmean(one.guessing for one in before)
        base, start = fmean(one.base for one in before), fmean(one.start for one in before)
        left = [base + float(over_base(result, name, [task]).mean()) for name in shown]
        rows.append([task, f"{100 * guessing:.1f}", *(_share(share, guessing, n) for share in (base, start, *left))])
    heads = ["", "guessing", "base, best rule", "start", *shown]
    note = (
        "On tasks that are held out, mean over seeds. A ° marks what is at chance: the 95 % interval of as many "
        "questions as one seed asks holds guessing (seeds may ask the same ones)."
    )
    return f"## Right test answers by task, %\n\n{note}\n\n{table(heads, rows)}"


def _share(share: float, guessing: float, n: int) -> str:
    low, high = wilson(round(share * n), n)
    return f"{100 * share:.1f}{'°' if low <= guessing <= high else ''}"


def _trainings(result: PoliciesResult) -> str:
    parts = [
        "## The trainings' own samples\n",
        "Samples that improve the model; iteration 0 is the policy before any, untrained or as the grid taught it "
        "(Wilson intervals, as if samples were independent).\n",
    ]
    for name, training in result.trainings.items():
        settings, rows = training.settings, []
        for iteration, sides in enumerate(training.iterations):
            for label, side in sides.items():
                if isinstance(side, Side):
                    low, high = side.ci95
                    rate = f"{100 * side.rate:.0f} % ({100 * low:.0f}–{100 * high:.0f})"
                    rows.append([str(iteration), label.replace("_", " "), f"{side.improved} of {side.drawn}", rate])
        kind = "warm start, then " if settings.warm_start else ""
        budget = f", TTL on at most {settings.budget} prompts" if settings.budget else ""
        parts.append(
            f"`{name}`: {kind}{settings.sampling.most} samples in each of {settings.seeds} seeds of "
            f"{len(settings.tasks)} tasks{budget}. {cost_in_words(training.costs)}\n"
        )
        parts.append(table(["iteration", "tasks", "improved", "rate (95 %)"], rows))
    return "\n".join(parts)


def _shares(result: PoliciesResult, points: Sequence[str]) -> list[list[float]]:
    """Return (T, points) the share of seeds in which a point improves the model."""
    shares = []
    for task in result.tasks:
        situations = [result.landscape[f"{task}-{seed}"] for seed in result.seeds]
        won = [
            {canonical_json(point) for family in situation.values() for point, _ in family.improve}
            for situation in situations
        ]
        shares.append([sum(point in each for each in won) / len(won) for point in points])
    return shares


def _landscape(result: PoliciesResult, points: Sequence[str]) -> str:
    rows, families = [], list(next(iter(result.landscape.values())))
    for task in result.tasks:
        situations = [result.landscape[f"{task}-{seed}"] for seed in result.seeds]
        counts = []
        for family in families:
            measured = sum(situation[family].measured for situation in situations)
            better = sum(len(situation[family].improve) for situation in situations)
            counts.append(f"{better} of {measured}" if measured else "–")
        starts = ", ".join(result.starts[f"{task}-{seed}"] for seed in result.seeds)
        rows.append([task, starts, *counts])
    shares = _shares(result, points)
    won = [100 * sum(row[place] for row in shares) / len(shares) for place in range(len(points))]
    ranked = sorted(zip(won, points, strict=True), reverse=True)[:5]
    best = "; ".join(f"`{point}` in {share:.0f} %" for share, point in ranked)
    note = (
        f"All {len(points)} points of the grid in every situation: how many improve the model over the loop's start, "
        "which is the best of the base model, the generated and the aligned adapter. Most often, over all situations: "
        f"{best}."
    )
    return f"## The landscape of rewards\n\n{note}\n\n{table(['', 'starts', *families], rows)}"
