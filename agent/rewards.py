"""Rewards, block by block: answers are kept as they come, nothing is measured twice, hopeless candidates are dropped.

The items of a measurement lie in ``items/kept-<key>.jsonl``; the key names all that they depend on. A block is written
in one step, so a kill costs one block, and a model's blocks are the same in every measurement of a part: what is
resumed, raced or measured in full has the same items. Parts are in seeded random order already, which racing needs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.state import Evaluations, Workbench
from cao.errors import InputError
from cao.files import canonical_json, sha256_bytes, sha256_file
from cao.progress import Progress
from cao.types import AdaptedModel, Comparison, Example, Item
from tools.evaluate import evaluate, load_items, save_items
from tools.evaluate.racing import FIRST_BLOCK, block_ends, hopeless
from tools.evaluate.statistics import compare


@dataclass(frozen=True)
class Measured:
    """A model on one part of the task.

    Attributes:
        items: the questions answered, in the part's order; fewer than ``total`` where the model was dropped.
        total: questions of the part.
        key: of the measurement.
        dropped: why the model was dropped, empty where every question was asked.
        reused: answers from kept hidden states; a question counts once for each of several adapters.
        agrees: whether full evaluation would not accept the dropped model either, where that was looked at.
    """

    items: list[Item]
    total: int
    key: str
    dropped: str = ""
    reused: int = 0
    agrees: bool | None = None


def measure_part(bench: Workbench, adapted: AdaptedModel, part: str, name: str) -> Measured:
    """Measure a model on a whole part of the task and keep its items as ``items/<name>.jsonl``.

    Args:
        bench: the workbench.
        adapted: what to measure.
        part: ``reward`` or ``test``.
        name: of the file.

    Raises:
        NotApplicableError: the model's output is not finite.
    """
    *_, measured = _growing(bench, adapted, part)
    save_items(_folder(bench) / f"{name}.jsonl", measured.items)
    return measured


def race_reward(bench: Workbench, candidate: AdaptedModel, best: list[Item], name: str) -> Measured:
    """Measure a candidate on the reward part as ``measure_part`` does, but stop where it is hopeless.

    Args:
        bench: the workbench; its configuration says whether to race, at which error, and the rule of acceptance.
        candidate: what to measure.
        best: the items to beat, of the whole part.
        name: of the file.

    Raises:
        NotApplicableError: the candidate's output is not finite.
    """
    config, why = bench.config, ""
    level = config.racing_error / max(1, len(_ends(bench.splits.reward, candidate)) - 1)
    for measured in _growing(bench, candidate, "reward"):
        asked = len(measured.items)
        if config.racing and asked < measured.total:
            why = hopeless(best[:asked], measured.items, measured.total, config.accept, level)
        if why:
            break
    save_items(_folder(bench) / f"{name}.jsonl", measured.items)
    agrees = None
    if why and config.racing_check:
        *_, whole = _growing(bench, candidate, "reward")
        agrees = not compare(best, whole.items, config.accept).accepted
    return replace(measured, dropped=why, agrees=agrees)


def judge(bench: Workbench, best: list[Item], measured: Measured) -> Comparison:
    """Compare a candidate with the best so far; one that was dropped is not accepted, whatever it looks like so far."""
    verdict = compare(best[: len(measured.items)], measured.items, bench.config.accept)
    return verdict.model_copy(update={"accepted": False}) if measured.dropped else verdict


def explain(verdict: Comparison, measured: Measured) -> str:
    """Say in words what a candidate's verdict is and why."""
    change = f"accuracy {100 * verdict.accuracy_change:+.1f} points, log-loss {verdict.loss_change:+.4f}"
    if measured.dropped:
        return f"dropped after {len(measured.items)} of {measured.total} questions: {change}; {measured.dropped}"
    rule = "rule: accuracy higher" if verdict.rule == "any" else f"one-sided p={verdict.loss_p_value:.3f}"
    return f"{'accepted' if verdict.accepted else 'not accepted'}: {change} ({rule})"


def counted(before: Evaluations | None, *measurements: Measured) -> Evaluations:
    """Return the counts of reward questions with more measurements added.

    Args:
        before: the counts so far.
        measurements: of the reward part, finished.
    """
    nothing: Evaluations = {"asked": 0, "dropped_early": 0, "measured": {}, "reused": 0, "checked": 0, "agreed": 0}
    counts: Evaluations = {**nothing, **(before or nothing)}
    counts["measured"] = dict(counts["measured"])
    for one in measurements:
        counts["asked"] += one.total
        counts["dropped_early"] += bool(one.dropped)
        counts["measured"][one.key] = max(counts["measured"].get(one.key, 0), len(one.items))
        counts["reused"] += one.reused
        counts["checked"] += one.agrees is not None
        counts["agreed"] += bool(one.agrees)
    return counts


def summary(evaluations: Evaluations) -> dict[str, int]:
    """Return what run.json says: the counts, with the questions that models answered and those that were saved."""
    asked, answered = evaluations["asked"], sum(evaluations["measured"].values())
    told = {key: evaluations[key] for key in ("dropped_early", "reused", "checked", "agreed")}
    return {"asked": asked, "answered": answered, "saved": asked - answered, **told}


def measurement_key(bench: Workbench, adapted: AdaptedModel, part: str) -> str:
    """Return the key of a measurement: equal for equal items, whatever the model was made by and wherever it lies."""
    depends_on = {
        "model": bench.lm.sha256,
        "dtype": bench.lm.dtype,
        "members": [member and member.sha256 for member in adapted.members],
        "method": adapted.method,
        "centroids": adapted.centroids and sha256_file(Path(adapted.centroids)),
        "latent": adapted.latent and adapted.latent.model_dump(mode="json"),
        "task": bench.task.name,
        "protocol": bench.protocol,
        "questions": [example.model_dump(mode="json") for example in getattr(bench.splits, part)],
    }
    return sha256_bytes(canonical_json(depends_on).encode())[:16]


def _growing(bench: Workbench, adapted: AdaptedModel, part: str) -> Iterator[Measured]:
    """Yield the measurement after each block, kept ones first, so that a resumed race takes every look again."""
    examples, key = getattr(bench.splits, part), measurement_key(bench, adapted, part)
    path = _folder(bench) / f"kept-{key}.jsonl"
    ends = _ends(examples, adapted)
    items = _kept(path, [example.id for example in examples], ends)
    before = bench.states.reused
    for end in ends:
        start = min(len(items), end)
        if start < end:
            block = examples[start:end]
            told = bench.progress if len(block) == len(examples) else _placed(bench, start, end, len(examples))
            loaded: Any = {"lm": bench.lm, "encoder": bench.encoder, "states": bench.states}
            more = evaluate(bench.task, block, adapted, bench.protocol, **loaded, progress=told)
            items = [*items, *more]
            save_items(path, items)
        yield Measured(items[:end], len(examples), key, reused=bench.states.reused - before)


def _placed(bench: Workbench, start: int, end: int, total: int) -> Progress:
    """Return a listener that says of which questions a block's progress is."""
    return lambda label, done, of: bench.progress(f"{label}, questions {start + 1} to {end} of {total}", done, of)


def _ends(examples: Sequence[Example], adapted: AdaptedModel) -> list[int]:
    """Return where blocks end; where each question goes to one of many adapters, all are put on for each block."""
    return block_ends(len(examples), FIRST_BLOCK if adapted.centroids is None else 2 * FIRST_BLOCK)


def _kept(path: Path, ids: list[str], ends: list[int]) -> list[Item]:
    """Return the items that were kept, up to the last whole block; none where the file is not what this code wrote."""
    try:
        items = load_items(path) if path.exists() else []
    except InputError:
        return []
    whole = len(items) in (0, *ends)  # the blocks were others: another version's file
    return items if whole and [item.id for item in items] == ids[: len(items)] else []


def _folder(bench: Workbench) -> Path:
    folder = bench.folder / "items"
    folder.mkdir(exist_ok=True)
    return folder
