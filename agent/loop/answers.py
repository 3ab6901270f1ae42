"""The answers of a model on one part of a task, block by block: what was answered once is kept, and asked no more.

The items of a model lie in ``items/kept-<key>.jsonl``; the key names all that they depend on. Adapters that answer
together are kept one by one, each with all the combinations that it is in, and under the default answer rule, from
which every other one follows. A block is written in one step, so a kill costs one block, and a model's blocks are the
same in every measurement of a part: what is resumed, raced or measured in full has the same items.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from agent.loop.state import Workbench
from agent.record.counting import counting
from cao.errors import InputError
from cao.files import canonical_json, opened, sealed, sha256_bytes, sha256_file, write_json
from cao.progress import Progress
from cao.tasks.splits import MeasuredPart
from cao.types import AdaptedModel, AnswerRule, Example, Item
from tools.evaluate import answer_by, evaluate, load_items, prior_of, save_items, together
from tools.evaluate.answer_rule import RULES, Prior
from tools.evaluate.priors import neutral_questions
from tools.evaluate.racing import FIRST_BLOCK, block_ends

_PRIOR: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, Annotated[float, Field(allow_inf_nan=False)]])


@dataclass(frozen=True)
class Measurement:
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


def measurement_key(bench: Workbench, adapted: AdaptedModel, part: MeasuredPart) -> str:
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
        "questions": [example.model_dump(mode="json") for example in _questions(bench, part)],
    }
    return sha256_bytes(canonical_json(depends_on).encode())[:16]


def prior_key(bench: Workbench, adapted: AdaptedModel, part: MeasuredPart) -> str:
    """Return the key of a prior: labels' serves every part, and that of choices is read without Latent's vectors."""
    kind = adapted.answer_rule.prior
    serves_all = "batch" in bench.priors
    asked = () if serves_all else _questions(bench, part)
    depends_on = {
        "model": bench.lm.sha256,
        "dtype": bench.lm.dtype,
        "members": [member and member.sha256 for member in adapted.members],
        "latent": adapted.latent.model_dump(mode="json") if adapted.latent and kind == "batch" else None,
        "task": bench.task.name,
        "questions": [example.model_dump(mode="json") for example in (*bench.splits.support, *asked)],
    }
    return sha256_bytes(canonical_json(depends_on).encode())[:16]


def neutral_of(bench: Workbench) -> int:
    """Return behind how many neutral questions choices are read: the reward part's number for all, so for one rule."""
    return neutral_questions(bench.task, bench.splits.reward, bench.lm.profile.answer_style)


def rules_of(bench: Workbench) -> tuple[AnswerRule, ...]:
    """Return the answer rules that this run can compare: the default alone where answers are written."""
    if bench.protocol != "likelihood" or not bench.config.answer_rules:
        return RULES[:1]
    return tuple(rule for rule in RULES if rule.prior in bench.priors)


class Answers:
    """The answers of a model's adapters on one part, kept ones first, block by block as they are wanted.

    Attributes:
        ends: after how many questions blocks end.
        of: adapters that answer each question; where each has questions of its own, they are one model.
        fresh: answers that were asked for, and not kept ones; a question counts once for each of several adapters.
        selecting: whether one adapter's answer is taken over, where several answer.
    """

    def __init__(self, bench: Workbench, adapted: AdaptedModel, part: MeasuredPart, name: str) -> None:
        self._name, self._part = name, part
        self._bench, self._adapted, self._before = bench, adapted, bench.states.reused
        self._examples = _questions(bench, part)
        self._key = measurement_key(bench, adapted, part)
        self.ends = _ends(self._examples, adapted)
        several = len(adapted.members) > 1 and adapted.centroids is None
        alone = [AdaptedModel(members=(member,), latent=adapted.latent) for member in adapted.members]
        self._models = [model.under(AnswerRule()) for model in (alone if several else [adapted])]
        self._keys = [measurement_key(bench, model, part) for model in alone] if several else [self._key]
        self.of, self.selecting = len(self._models), adapted.method == "max_confidence"
        self.fresh = 0
        self._items: dict[str, list[Item]] = {}
        self._priors: dict[tuple[int, int], Prior] = {}

    def whole(self) -> Measurement:
        """Return the measurement of all adapters on all questions; the blocks come one after the other."""
        return [self.until(end, self.of) for end in self.ends][-1]

    def until(self, end: int, members: int) -> Measurement:
        """Return what the first adapters answer together on all blocks up to one."""
        each = [self.alone(member, end) for member in range(members)]
        examples = self._examples[:end]
        items = [
            together(e, given, self._adapted.method) for e, given in zip(examples, zip(*each, strict=True), strict=True)
        ]
        reused = self._bench.states.reused - self._before
        by_key = dict.fromkeys(self._keys[:members], end)
        return Measurement(
            items, len(self._examples), self._key, reused=reused, members=members, of=self.of, answers=by_key
        )

    def alone(self, member: int, end: int) -> list[Item]:
        """Return one adapter's answers on all blocks up to one, under the model's answer rule."""
        rule, bench, items = self._adapted.answer_rule, self._bench, self._asked(member, end)
        if rule == AnswerRule():
            return items
        style, answered = bench.lm.profile.answer_style, list[Item]()
        for example, item in zip(self._examples, items, strict=False):
            prior = self._prior(member, item.member) if rule.prior != "none" else {}
            answered += answer_by(rule, bench.task, [example], [item], prior, style)
        return answered

    def _prior(self, member: int, routed: int) -> Prior:
        """Return the prior that the answer rule takes off, as one adapter has it; it is kept like the answers.

        Args:
            member: which model of the adapters that answer together.
            routed: which of its adapters, where each question goes to one of several.
        """
        if (member, routed) not in self._priors:
            bench, rule = self._bench, self._adapted.answer_rule
            model = self._models[member].under(rule)
            path = items_folder(bench) / f"prior-{rule.prior}-{prior_key(bench, model, self._part)}-{routed}.json"
            prior = _kept_prior(path)
            if not prior:
                support = bench.splits.support
                asked, lm, states = self._examples, bench.lm, bench.states
                many = neutral_of(bench)
                prior = prior_of(model, routed, bench.task, asked, support, lm=lm, states=states, neutral=many)
                write_json(path, sealed(prior))
            self._priors[member, routed] = prior
        return self._priors[member, routed]

    def _asked(self, member: int, end: int) -> list[Item]:
        """Return one adapter's answers on all blocks up to one; a block that is not kept is asked, and kept."""
        bench, key, examples = self._bench, self._keys[member], self._examples
        path = items_folder(bench) / f"kept-{key}.jsonl"
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
                self.fresh += len(more)
                self._items[key] = [*self._items[key], *more]
                save_items(path, self._items[key])
        return self._items[key][:end]

    def _counted(self) -> Progress:
        """Return a listener to one block that tells how far the whole measurement is."""
        before, total = sum(len(self._items.get(key, ())) for key in self._keys), len(self._examples) * self.of
        return counting(self._bench.progress, self._name, self._part, of=self.of, before=before, total=total)


def _questions(bench: Workbench, part: MeasuredPart) -> list[Example]:
    return bench.splits.reward if part == "reward" else bench.splits.test


def _ends(examples: Sequence[Example], adapted: AdaptedModel) -> list[int]:
    """Return where blocks end; where each question goes to one of many adapters, all are put on for each block."""
    return block_ends(len(examples), FIRST_BLOCK if adapted.centroids is None else 2 * FIRST_BLOCK)


def _kept(path: Path, ids: list[str], ends: list[int]) -> list[Item]:
    """Return the items that were kept, up to the last whole block; none where the file is not what this code wrote."""
    try:
        items = load_items(path) if path.exists() else []
    except InputError:
        return []
    whole = len(items) in (0, *ends) and all(
        item.choices or not item.scores for item in items
    )  # the blocks were others: another version's file
    return items if whole and [item.id for item in items] == ids[: len(items)] else []


def _kept_prior(path: Path) -> Prior:
    """Return the prior that was kept; nothing where there is none or the file is not what this code wrote."""
    try:
        return _PRIOR.validate_json(opened(path.read_bytes()))
    except (OSError, ValueError):
        return {}


def items_folder(bench: Workbench) -> Path:
    """Return the folder of a run's items, made where it is missing."""
    folder = bench.folder / "items"
    folder.mkdir(exist_ok=True)
    return folder
