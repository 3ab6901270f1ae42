"""What a training of the policy came to, in figures and words; and how its weights are shipped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import cao
from agent.train.policy.rest_em import CHUNK, Sample, Sampling, costs, verdict
from agent.train.policy.run import Training
from agent.train.policy.situations import Situation
from cao.errors import InputError
from cao.files import canonical_json, write_atomic, write_json
from cao.model.adapters import adapter_sha256, load_adapter, save_adapter
from cao.strategies import FAMILIES
from policies.grid import grid
from policies.trained import PolicyIndex, TrainedPolicy, read_policies
from tools.evaluate.statistics import wilson


def write_report(training: Training) -> dict[str, Any]:
    """Write ``report.json`` and ``report.md`` into the training's folder and return the former's object.

    Args:
        training: a finished one.
    """
    settings = training.settings
    last = settings.folder / f"policy-{settings.iterations}"
    sides = {
        "practice": training.practice,
        "held_out": training.held_out,
    }
    samples = training.log.samples
    report = {
        "model": settings.config.model,
        "model_sha256": training.lm.sha256,
        "policy": last.name,
        "policy_sha256": adapter_sha256(load_adapter(last, training.lm.sha256)),
        "settings": settings.claim(),
        "iterations": [
            {name: _side(samples, iteration, names, settings.sampling) for name, names in sides.items()}
            for iteration in range(settings.iterations + 1)
        ],
        "costs": {**costs(samples), "naive_questions": _naive(training)},
        "arms": _arms([training.situations[name] for name in training.practice]),
        "landscape": {name: _landscape(situation) for name, situation in training.situations.items()},
    }
    write_json(settings.folder / "report.json", report)
    write_atomic(settings.folder / "report.md", text(report))
    return report


def _side(samples: Sequence[Sample], iteration: int, names: Sequence[str], sampling: Sampling) -> dict[str, Any]:
    mine = [sample for sample in samples if sample.iteration == iteration and sample.situation in names]
    if not mine:
        return {}
    won, first = sum(s.reward for s in mine), [s for s in mine if s.number == 0]
    situations = {}
    for name in names:
        rewards = [s.reward for s in mine if s.situation == name]
        situations[name] = {"drawn": len(rewards), "improved": sum(rewards), "verdict": verdict(rewards, sampling)}
    return {
        "drawn": len(mine),
        "valid": sum(s.valid for s in mine),
        "improved": won,
        "rate": round(won / len(mine), 4),
        "ci95": [round(value, 4) for value in wilson(won, len(mine))],
        "first_attempt": f"{sum(s.reward for s in first)} of {len(first)}",
        "situations": situations,
    }


def _naive(training: Training) -> int:
    """Return the reward questions that a fixed number of samples, none remembered and none raced, would have asked."""
    settings = training.settings
    most = settings.sampling.most
    samples = settings.iterations * most + min(CHUNK, most)
    return samples * len(training.situations) * settings.config.reward


def _landscape(situation: Situation) -> dict[str, Any]:
    """Return how many points of the grid improve the model in a situation, family by family, as far as measured."""
    known, families = situation.known(), dict[str, dict[str, int]]()
    for point in grid(situation.context.families):
        judged = known.get(canonical_json(point.canonical()))
        if judged is not None:
            counts = families.setdefault(point.family, {"measured": 0, "improve": 0})
            counts["measured"] += 1
            counts["improve"] += judged.improved
    return families


def _arms(practised: Sequence[Situation]) -> dict[str, tuple[int, int]]:
    """Return what the grid's points came to in practice: strategy → (situations improved, situations not improved)."""
    arms: dict[str, tuple[int, int]] = {}
    for situation in practised:
        known = situation.known()
        for point in grid(situation.context.families):
            key = canonical_json(point.canonical())
            if key in known:
                won, lost = arms.get(key, (0, 0))
                arms[key] = (won + known[key].improved, lost + (not known[key].improved))
    return arms


def text(report: dict[str, Any]) -> str:
    """Return the report for people, as Markdown."""
    lines = [
        f"# The policy of {report['model']}, trained by ReST-EM",
        "",
        "Share of sampled strategies that improve the model over the loop's start on the reward questions, with its",
        "95 % Wilson interval. Samples of one situation are not independent of each other: the interval is too narrow",
        "for statements about new tasks. Iteration 0 is the untrained policy.",
        "",
        "| iteration | tasks | improved | rate | 95 % | valid | first attempts that improve |",
        "|---|---|---|---|---|---|---|",
    ]
    for iteration, sides in enumerate(report["iterations"]):
        for name, side in sides.items():
            if side:
                low, high = side["ci95"]
                drawn = side["drawn"]
                cells = [
                    str(iteration),
                    name.replace("_", " "),
                    f"{side['improved']} of {drawn}",
                    f"{side['rate']:.2f}",
                ]
                cells += [f"{low:.2f} – {high:.2f}", f"{side['valid']} of {drawn}", side["first_attempt"]]
                lines.append(f"| {' | '.join(cells)} |")
    cost = report["costs"]
    lines += [
        "",
        f"{cost['drawn']} texts were drawn, {cost['valid']} were strategies, {cost['measured']} had to be measured: "
        f"{cost['questions']} reward questions where a fixed number of samples without racing and memory asks "
        f"{cost['naive_questions']}; {cost['seconds']:.0f} s.",
    ]
    measured = {name: families for name, families in report["landscape"].items() if families}
    if measured:
        lines += ["", "Points of the strategy grid that improve the model, of those measured:", ""]
        lines += [f"| situation | {' | '.join(FAMILIES)} |", "|---" * (1 + len(FAMILIES)) + "|"]
        for name, families in measured.items():
            cells = [families.get(family) for family in FAMILIES]
            columns = " | ".join(f"{c['improve']} of {c['measured']}" if c else "–" for c in cells)
            lines.append(f"| {name} | {columns} |")
    return "\n".join(lines) + "\n"


def install(training: Training, report: dict[str, Any], index: Path) -> None:
    """Copy the trained policy to where ``agent.run`` looks for the local policy's adapter.

    Args:
        training: a finished one.
        report: what ``write_report`` returned.
        index: the index file.

    Raises:
        InputError: it cannot be written there.
    """
    lm, settings = training.lm, training.settings
    weights = load_adapter(settings.folder / report["policy"], lm.sha256)
    store = index.parent / lm.profile.name / "policy"
    try:
        reference = save_adapter(store, weights, lm.profile.name, torch.bfloat16)
        made = {"code_version": cao.__version__, **{key: report[key] for key in ("settings", "costs")}}
        entry = TrainedPolicy(name=lm.profile.name, path=f"{lm.profile.name}/policy/{reference.sha256}", made=made)
        known = read_policies(index).policies
        write_json(index, PolicyIndex(format=1, policies={**known, lm.sha256: entry}).model_dump(mode="json"))
    except OSError as error:
        raise InputError(f"{index.parent}: cannot be written ({error.strerror})") from None
