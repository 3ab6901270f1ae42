"""What a training of the policy came to, in figures and words; and how its weights are shipped."""

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import Field, JsonValue

import cao
from agent.train.policy.costs import Costs, cost_in_words, costs_of
from agent.train.policy.rest_em import Sample, Sampling, verdict
from agent.train.policy.run import Training
from agent.train.policy.selection import Practised, all_apart, measured_points, practised, selection_of, summary
from agent.train.policy.situations import Situation
from cao.errors import InputError
from cao.files import canonical_json, sealed, write_atomic, write_json
from cao.model.adapters import adapter_sha256, load_adapter, save_adapter
from cao.strategies import FAMILIES
from cao.types import Record
from policies.selection.learnt import SELECTION, selection_file
from policies.trained import PolicyIndex, TrainedPolicy, read_policies
from tools.evaluate.statistics import wilson


class Empty(Record):
    """An object without keys: there is nothing to say."""


class Drawn(Record):
    """One situation's samples: how many, how many improve the model, and what the sequential test concludes."""

    drawn: int
    improved: int
    verdict: str | None


class Side(Record):
    """The samples of one iteration in practice, or on held-out tasks.

    Attributes:
        drawn: texts.
        valid: that are strategies.
        improved: that improve the model.
        rate: improved over drawn.
        ci95: its Wilson interval.
        first_attempt: how many first ones improve, of how many, in words.
        situations: situation → its samples.
    """

    drawn: int
    valid: int
    improved: int
    rate: float
    ci95: tuple[float, float]
    first_attempt: str
    situations: dict[str, Drawn]


Landscape = dict[str, dict[str, int]]
"""Family → how many points of its grid were ``measured``, and how many of these ``improve`` the model."""


class Report(Record):
    """What ``report.json`` holds.

    Attributes:
        model, model_sha256: the model profile, and the hash of its weights.
        policy, policy_sha256: the last iteration's folder, and the hash of its adapter; None where none was trained.
        settings: what the training is for.
        iterations: of each iteration, ``practice`` and ``held_out``.
        costs: what it cost.
        arms: strategy → situations in practice that it improved, and that it did not.
        landscape: situation → its landscape.
        selection: portfolio and surrogate with each practised task left out in turn: row → share of first attempts
            that are accepted, and gain of a loop; empty where no landscape is known.
        practised: what every point of the grid is worth in the practised situations, and their features.
    """

    model: str
    model_sha256: str
    policy: str | None
    policy_sha256: str | None
    settings: dict[str, JsonValue]
    iterations: tuple[dict[str, Side | Empty], ...]
    costs: Costs
    arms: dict[str, tuple[int, int]]
    landscape: dict[str, Landscape]
    selection: dict[str, dict[str, float]] = Field(default_factory=dict)
    practised: tuple[Practised, ...] = ()


def write_report(training: Training) -> Report:
    """Write ``report.json`` and ``report.md`` into the training's folder and return the former's object.

    Args:
        training: a finished one.
    """
    settings = training.settings
    last, known = training.last, practised([training.situations[name] for name in training.practice])
    sides = {
        "practice": training.practice,
        "held_out": training.held_out,
    }
    samples = training.log.samples
    report = Report(
        model=settings.config.model,
        model_sha256=training.lm.sha256,
        policy=last.name if last else None,
        policy_sha256=adapter_sha256(load_adapter(last, training.lm.sha256)) if last else None,
        settings=settings.claim(),
        iterations=tuple(
            {name: _side(samples, iteration, names, settings.sampling) for name, names in sides.items()}
            for iteration in range(settings.iterations + 1)
        ),
        costs=costs_of(training),
        arms=_arms([training.situations[name] for name in training.practice]),
        landscape={name: _landscape(situation) for name, situation in training.situations.items()},
        selection=summary(known) if all_apart(known) else {},
        practised=tuple(known),
    )
    if selection := selection_of(known, training.lm.sha256) if known else None:
        write_json(settings.folder / SELECTION, sealed(selection.model_dump(mode="json")))
    write_json(settings.folder / "report.json", report.model_dump(mode="json"))
    write_atomic(settings.folder / "report.md", text(report))
    return report


def _side(samples: Sequence[Sample], iteration: int, names: Sequence[str], sampling: Sampling) -> Side | Empty:
    mine = [sample for sample in samples if sample.iteration == iteration and sample.situation in names]
    if not mine:
        return Empty()
    won, first = sum(s.reward for s in mine), [s for s in mine if s.number == 0]
    found: dict[str, Drawn] = {}
    for name in names:
        rewards = [s.reward for s in mine if s.situation == name]
        found[name] = Drawn(drawn=len(rewards), improved=sum(rewards), verdict=verdict(rewards, sampling))
    low, high = wilson(won, len(mine))
    return Side(
        drawn=len(mine),
        valid=sum(s.valid for s in mine),
        improved=won,
        rate=round(won / len(mine), 4),
        ci95=(round(low, 4), round(high, 4)),
        first_attempt=f"{sum(s.reward for s in first)} of {len(first)}",
        situations=found,
    )


def _landscape(situation: Situation) -> Landscape:
    """Return how many points of the grid improve the model in a situation, family by family, as far as measured."""
    families = Landscape()
    for point, judged in measured_points(situation):
        counts = families.setdefault(point.family, {"measured": 0, "improve": 0})
        counts["measured"] += 1
        counts["improve"] += judged.improved
    return families


def _arms(practised: Sequence[Situation]) -> dict[str, tuple[int, int]]:
    """Return what the grid's points came to in practice: strategy → (situations improved, situations not improved)."""
    arms: dict[str, tuple[int, int]] = {}
    for situation in practised:
        for point, judged in measured_points(situation):
            key = canonical_json(point.canonical())
            won, lost = arms.get(key, (0, 0))
            arms[key] = (won + judged.improved, lost + (not judged.improved))
    return arms


def _samples(report: Report) -> list[str]:
    """Return what the language model's samples came to."""
    taught = bool(report.settings.get("warm_start"))
    first = "policy as the grid taught it" if taught else "untrained policy"
    lines = [
        f"# The policy of {report.model}, {'taught by the grid' if taught else 'trained by ReST-EM'}",
        "",
        "Share of sampled strategies that improve the model over the loop's start on the reward questions, with its",
        "95 % Wilson interval. Samples of one situation are not independent of each other: the interval is too narrow",
        f"for statements about new tasks. Iteration 0 is the {first}.",
        "",
        "| iteration | tasks | improved | rate | 95 % | valid | first attempts that improve |",
        "|---|---|---|---|---|---|---|",
    ]
    for iteration, sides in enumerate(report.iterations):
        for name, side in sides.items():
            if isinstance(side, Side):
                low, high = side.ci95
                cells = [
                    str(iteration),
                    name.replace("_", " "),
                    f"{side.improved} of {side.drawn}",
                    f"{side.rate:.2f}",
                ]
                cells += [f"{low:.2f} – {high:.2f}", f"{side.valid} of {side.drawn}", side.first_attempt]
                lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", cost_in_words(report.costs)]


def text(report: Report) -> str:
    """Return the report for people, as Markdown."""
    title = f"# What practice teaches about choosing strategies for {report.model}"
    lines = _samples(report) if report.policy else [title]
    if report.selection:
        lines += [
            "",
            "Strategies chosen without a language model, in each situation by the landscapes of all *other* tasks:",
            "",
            "| who chooses | first attempts accepted | gain of a loop of four (share of questions + nats) |",
            "|---|---|---|",
        ]
        lines += [f"| {name} | {row['first']:.2f} | {row['gain']:.4f} |" for name, row in report.selection.items()]
    measured = {name: families for name, families in report.landscape.items() if families}
    if measured:
        lines += ["", "Points of the strategy grid that improve the model, of those measured:", ""]
        lines += [f"| situation | {' | '.join(FAMILIES)} |", "|---" * (1 + len(FAMILIES)) + "|"]
        for name, families in measured.items():
            counts = [families.get(family) for family in FAMILIES]
            columns = " | ".join(f"{c['improve']} of {c['measured']}" if c else "–" for c in counts)
            lines.append(f"| {name} | {columns} |")
    return "\n".join(lines) + "\n"


def install(training: Training, report: Report, index: Path) -> None:
    """Put what was learnt where ``agent.run`` looks for it: the policy's adapter, the portfolio and the surrogate.

    Args:
        training: a finished one.
        report: what ``write_report`` returned.
        index: the index file.

    Raises:
        InputError: it cannot be written there.
    """
    lm, settings = training.lm, training.settings
    try:
        if (settings.folder / SELECTION).exists():
            target = selection_file(lm.profile.name, str(index.parent))
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(target, (settings.folder / SELECTION).read_bytes())
    except OSError as error:
        raise InputError(f"{index.parent}: cannot be written ({error.strerror})") from None
    if report.policy is None:
        return
    weights = load_adapter(settings.folder / report.policy, lm.sha256)
    store = index.parent / lm.profile.name / "policy"
    try:
        reference = save_adapter(store, weights, lm.profile.name, torch.bfloat16)
        made = {"code_version": cao.__version__, "settings": report.settings, "costs": report.costs.model_dump()}
        entry = TrainedPolicy(name=lm.profile.name, path=f"{lm.profile.name}/policy/{reference.sha256}", made=made)
        others = read_policies(index).policies
        whole = PolicyIndex(format=1, policies={**others, lm.sha256: entry})
        write_json(index, sealed(whole.model_dump(mode="json")))
    except OSError as error:
        raise InputError(f"{index.parent}: cannot be written ({error.strerror})") from None
