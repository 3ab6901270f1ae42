"""Rewards, block by block: answers are kept as they come, nothing is measured twice, hopeless candidates are dropped.

The items of a model lie in ``items/kept-<key>.jsonl``; the key names all that they depend on. Adapters that answer
together are kept one by one, each with all the combinations that it is in. A block is written in one step, so a kill
costs one block, and a model's blocks are the same in every measurement of a part: what is resumed, raced or measured in
full has the same items. Parts are in seeded random order already, which racing needs.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.budget.plan import part_seconds
from agent.loop.state import Workbench
from agent.record.counting import counting
from cao.errors import InputError
from cao.files import canonical_json, sha256_bytes, sha256_file
from cao.progress import Progress
from cao.types import AdaptedModel, Comparison, Example, Item
from tools.evaluate import evaluate, load_items, save_items, together
from tools.evaluate.racing import FIRST_BLOCK, block_ends, hopeless
from tools.evaluate.racing_members import FEW, alike, few_hopeless, looks
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
        members: adapters that answered together; fewer than ``of`` where the model was dropped before the others did.
        of: adapters that answer each question.
        answers: key of an adapter's own measurement → questions that it answered.
    """

    items: list[Item]
    total: int
    key: str
    dropped: str = ""
    reused: int = 0
    agrees: bool | None = None
    members: int = 1
    of: int = 1
    answers: dict[str, int] = field(default_factory=dict)


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
    measured = _Answers(bench, adapted, part, name).whole()
    save_items(_folder(bench) / f"{name}.jsonl", measured.items)
    return measured


def race_reward(bench: Workbench, candidate: AdaptedModel, best: list[Item], name: str, again: float = 0.0) -> Measured:
    """Measure a candidate on the reward part as ``measure_part`` does, but stop where it is hopeless.

    Args:
        bench: the workbench; its configuration says whether to race, at which error, and the rule of acceptance.
        candidate: what to measure.
        best: the items to beat, of the whole part.
        name: of the file.
        again: seconds of making the candidate anew for the test part.

    Raises:
        NotApplicableError: the candidate's output is not finite.
    """
    config, answers, started = bench.config, _Answers(bench, candidate, "reward", name), time.monotonic()
    every = [(answers.of, end) for end in answers.ends[:-1]]
    path = looks(answers.of, answers.ends, few=_few_stand_for_all(answers, best, bench)) if config.racing else every
    level, total, why = config.racing_error / max(1, len(path)), len(best), ""
    for members, end in path:
        measured = answers.until(end, members)
        if config.racing and members == answers.of:
            why = hopeless(best[:end], measured.items, total, config.accept, level)
        elif config.racing and _few_are_hopeless(answers, best, measured, level):
            why = f"{members} adapters show that the log-loss of all {answers.of} will hardly be low enough"
        each = (time.monotonic() - started) / (members * end)
        if why := why or _too_late(bench, each, members * end, answers.of, again):
            break
    else:
        measured = answers.whole()
    save_items(_folder(bench) / f"{name}.jsonl", measured.items)
    agrees = None
    if why and config.racing_check:
        agrees = not compare(best, answers.whole().items, config.accept).accepted
    return replace(measured, dropped=why, agrees=agrees)


def _too_late(bench: Workbench, each: float, answered: int, of: int, again: float) -> str:
    """Say that a time budget has no room for a candidate's other answers and for the test part, or return nothing.

    Args:
        bench: the workbench.
        each: seconds in which one of the candidate's adapters answers one question.
        answered: answers so far.
        of: adapters that answer each question.
        again: seconds of making the candidate anew for the test part.
    """
    rest, test = again + each * (len(bench.splits.reward) * of - answered), bench.splits.test
    both = part_seconds(bench.speed, bench.task, test, bench.protocol) + each * len(test) * of
    return "the time is up" if bench.clock.left < rest + both else ""


def _few_stand_for_all(answers: "_Answers", best: list[Item], bench: Workbench) -> bool:
    """Return whether a few of a candidate's adapters should answer every question before the others begin."""
    if bench.config.accept != "confident" or answers.of <= FEW or len(best) < FIRST_BLOCK:
        return False
    return alike(answers.changes(best, answers.ends[0], FEW))


def _few_are_hopeless(answers: "_Answers", best: list[Item], measured: Measured, level: float) -> bool:
    """Return whether all of a candidate's adapters are hopeless, by what a few of them answered."""
    alone = answers.changes(best, len(measured.items), measured.members)
    combined = _changes(best, measured.items)
    return few_hopeless(alone, combined, measured.of, measured.total, level, selecting=answers.selecting)


def judge(bench: Workbench, best: list[Item], measured: Measured) -> Comparison:
    """Compare a candidate with the best so far; one that was dropped is not accepted, whatever it looks like so far."""
    verdict = compare(best[: len(measured.items)], measured.items, bench.config.accept)
    return verdict.model_copy(update={"accepted": False}) if measured.dropped else verdict


def explain(verdict: Comparison, measured: Measured) -> str:
    """Say in words what a candidate's verdict is and why."""
    change = f"accuracy {100 * verdict.accuracy_change:+.1f} points, log-loss {verdict.loss_change:+.4f}"
    if measured.dropped:
        by = "" if measured.members == measured.of else f" by {measured.members} of {measured.of} adapters"
        return f"dropped after {len(measured.items)} of {measured.total} questions{by}: {change}; {measured.dropped}"
    rule = "rule: accuracy higher" if verdict.rule == "any" else f"one-sided p={verdict.loss_p_value:.3f}"
    return f"{'accepted' if verdict.accepted else 'not accepted'}: {change} ({rule})"


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


class _Answers:
    """The answers of a model's adapters on one part, kept ones first, block by block as they are wanted.

    Attributes:
        ends: after how many questions blocks end.
        of: adapters that answer each question; where each has questions of its own, they are one model.
        selecting: whether one adapter's answer is taken over, where several answer.
    """

    def __init__(self, bench: Workbench, adapted: AdaptedModel, part: str, name: str) -> None:
        self._name, self._part = name, part
        self._bench, self._adapted, self._before = bench, adapted, bench.states.reused
        self._examples: list[Example] = getattr(bench.splits, part)
        self._key = measurement_key(bench, adapted, part)
        self.ends = _ends(self._examples, adapted)
        several = len(adapted.members) > 1 and adapted.centroids is None
        alone = [AdaptedModel(members=(member,), latent=adapted.latent) for member in adapted.members]
        self._models = alone if several else [adapted]
        self._keys = [measurement_key(bench, model, part) for model in alone] if several else [self._key]
        self.of, self.selecting = len(self._models), adapted.method == "max_confidence"
        self._items: dict[str, list[Item]] = {}

    def whole(self) -> Measured:
        """Return the measurement of all adapters on all questions; the blocks come one after the other."""
        return [self.until(end, self.of) for end in self.ends][-1]

    def until(self, end: int, members: int) -> Measured:
        """Return what the first adapters answer together on all blocks up to one."""
        each = [self._alone(member, end) for member in range(members)]
        examples = self._examples[:end]
        items = [
            together(e, given, self._adapted.method) for e, given in zip(examples, zip(*each, strict=True), strict=True)
        ]
        reused = self._bench.states.reused - self._before
        by_key = dict.fromkeys(self._keys[:members], end)
        return Measured(
            items, len(self._examples), self._key, reused=reused, members=members, of=self.of, answers=by_key
        )

    def changes(self, best: list[Item], end: int, members: int) -> NDArray[np.float64]:
        """Return the paired differences of the loss, (members, end) float64, each adapter on its own."""
        return np.stack([_changes(best, self._alone(member, end)) for member in range(members)])

    def _alone(self, member: int, end: int) -> list[Item]:
        """Return one adapter's answers on all blocks up to one; a block that is not kept is asked, and kept."""
        bench, key, examples = self._bench, self._keys[member], self._examples
        path = _folder(bench) / f"kept-{key}.jsonl"
        if key not in self._items:
            self._items[key] = _kept(path, [example.id for example in examples], self.ends)
        for upto in self.ends:
            start = len(self._items[key])
            if start < upto <= end:
                more = evaluate(
                    bench.task,
                    examples[start:upto],
                    self._models[member],
                    bench.protocol,
                    lm=bench.lm,
                    encoder=bench.encoder,
                    states=bench.states,
                    progress=self._counted(),
                )
                self._items[key] = [*self._items[key], *more]
                save_items(path, self._items[key])
        return self._items[key][:end]

    def _counted(self) -> Progress:
        """Return a listener to one block that tells how far the whole measurement is."""
        before, total = sum(len(self._items.get(key, ())) for key in self._keys), len(self._examples) * self.of
        return counting(self._bench.progress, self._name, self._part, of=self.of, before=before, total=total)


def _changes(best: Sequence[Item], items: Sequence[Item]) -> NDArray[np.float64]:
    """Return the paired differences of the loss, (n,) float64."""
    return np.array([new.loss - old.loss for old, new in zip(best, items, strict=False)])


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
