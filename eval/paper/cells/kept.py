"""The cells of the tables: a row on a task with a seed, its answers to the test part, and what it was made of.

A cell is known by a fingerprint of everything that it depends on, and kept in a file as soon as it is there. A file of
another fingerprint is another cell; one that does not hold what its name says is refused. Answers of a model to a
question are kept besides, for all cells of a task that ask and judge alike: what two rows share is asked once.
"""

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agent.loop.reward import measure_part
from agent.loop.state import Workbench
from agent.train.files import read_json
from cao.errors import InputError
from cao.files import canonical_json, sealed, sha256_bytes, sha256_file, write_json
from cao.model.profiles import settings_of
from cao.types import AnswerProtocol, AnswerRule, Example, Item, Record
from eval.baselines.baseline import Spent
from eval.baselines.cell import target_of
from eval.baselines.registry import BASELINES
from eval.code import code_of, grader_code
from eval.paper.cells.desk import Desk
from eval.paper.cells.models import CODE, Candidate, candidate
from eval.paper.rows import ROWS, WHOLE
from policies.base import adapter_of
from tools.detect_drift.reference import registered
from tools.evaluate import load_items, save_items
from tools.evaluate.statistics import best_rule
from tools.evaluate.temperature import losses
from tools.evaluate.written import parsable

JUDGES = ("tools.evaluate", "agent.loop.answers", "cao.model.loading")
"""Modules that every cell depends on."""


ELSEWHERE = ("model", "model_path", "device", "dtype", "threads")
"""Keys of a run that a cell names by their hashes, or by what was computed with."""

ALIKE = ("judges", "model", "computed", "profile", "protocol", "reward", "test")
"""Of what a cell depends on, what its answers do whichever row gives them; the adapters' hashes are in their files."""


class Key(NamedTuple):
    """Which cell.

    Attributes:
        row: its name.
        task: its name.
        seed: of the questions that the row reads; 0 where they make no difference.
    """

    row: str
    task: str
    seed: int

    def __str__(self) -> str:
        return f"{self.row} on {self.task}, seed {self.seed}"


class Kept(Record):
    """A finished cell, beside its answers.

    Attributes:
        fingerprint: of all that it depends on.
        depends_on: the same in JSON values, for who asks why a cell was made again.
        rule: of answering, chosen on the reward part.
        note: what was made, in words.
        adapter: its hash, empty where there is none or several.
        parsable: share of the written texts that give an answer (``tools.evaluate.written``); None of ranked ones.
        spent: before the task was known, and on it.
        seconds: that making and judging it took, of the process that ended it.
    """

    fingerprint: str
    depends_on: dict[str, object]
    rule: AnswerRule
    note: str = ""
    adapter: str = ""
    parsable: float | None = None
    spent: tuple[Spent, Spent]
    seconds: float


class Answered(NamedTuple):
    """A finished cell with its answers to the test part, by the default rule and by its own."""

    kept: Kept
    default: list[Item]
    best: list[Item]


def depends_on(desk: Desk, key: Key) -> dict[str, object]:
    """Return everything that a cell depends on, in JSON values.

    Raises:
        InputError: no such task.
        UnavailableError: something needed is not at hand.
    """
    row, options = ROWS[key.row], desk.shared.options
    bench = desk.bench(key.task, key.seed, Path(), row.accept)
    splits = bench.splits
    found: dict[str, object] = {
        "row": key.row,
        "task": key.task,
        "seed": key.seed,
        "protocol": bench.protocol,
        "code": [CODE, code_of(*JUDGES, *row.code)],
        "judges": code_of(*JUDGES),
        "model": desk.lm.sha256,
        "computed": [desk.lm.dtype, str(desk.lm.device).split(":")[0]],
        "profile": settings_of(desk.lm.profile),
        "support": _sha256(_asked(bench, splits.support)),
        "reward": _sha256(_asked(bench, splits.reward)),
        "test": _sha256(_asked(bench, splits.test)),
        "description": bench.task.description,
    }
    if row.kind == "baseline" and row.name != "base":
        ground, budget = desk.ground(key.task), desk.budget(key.task)
        stated = budget.model_dump(mode="json") if budget else None
        pool = ground.asked(BASELINES[row.name].pool(ground, key.task))
        more = {"ground": _sha256(ground.about), "pool": _sha256(pool), "rules": options.rules, "budget": stated}
        target = target_of(BASELINES[row.name], ground, key.task, key.seed)
        about = target.about(desk.lm.profile.answer_style)
        found |= {**more, "generators_tokens": desk.whole_budget(key.task).preparing, "target": about}
    if row.kind != "baseline":
        found |= {"parts": bench.trained.hashes(), "encoder": desk.encoder.sha256}
    if row.name in WHOLE:
        run = {key: value for key, value in bench.config.fingerprint().items() if key not in ELSEWHERE}
        known = {name: sha256_file(path) for name, path in registered().items()}
        found |= {"run": run, "policy": adapter_of(bench.policy), "references": known}
    return found


def _asked(bench: Workbench, examples: Sequence[Example]) -> list[object]:
    """Return questions as the model is asked them, with what is right."""
    task, style = bench.task, bench.lm.profile.answer_style
    if bench.protocol == "generate":
        how = [task.max_new_tokens, task.stop, grader_code(task.grade.__module__)]
        right = [(example.gold_text, example.choices, example.answer, example.accepted) for example in examples]
        return [how, *([task.ask(example), *of_one] for example, of_one in zip(examples, right, strict=True))]
    return [[task.query(example, style).model_dump(mode="json"), example.answer] for example in examples]


def fingerprint_of(about: dict[str, object]) -> str:
    """Return the hash of what a cell depends on."""
    return _sha256(about)


def alike(about: dict[str, object]) -> str:
    """Return the name of the folder in which cells share answers: equal for those that ask and judge alike."""
    return _sha256({name: about[name] for name in ALIKE})[:16]


def _sha256(value: object) -> str:
    return sha256_bytes(canonical_json(value).encode())


class Shelf:
    """Where the cells of a table lie.

    Attributes:
        folder: of them.
    """

    def __init__(self, work: Path, protocol: AnswerProtocol) -> None:
        self.folder, self._answers = work / "cells" / protocol, work / "answers"

    def _stem(self, key: Key, fingerprint: str) -> Path:
        return self.folder / key.row / f"{key.task}-{key.seed}-{fingerprint[:16]}"

    def read(self, key: Key, fingerprint: str) -> Answered | None:
        """Return a finished cell, None where there is none.

        Raises:
            InputError: a file of it is damaged, or is not the cell that its name says.
        """
        stem = self._stem(key, fingerprint)
        path = stem.with_name(f"{stem.name}.json")
        if not path.exists():
            return None
        kept = read_json(path, Kept)
        if kept.fingerprint != fingerprint or _sha256(kept.depends_on) != fingerprint:
            raise InputError(f"{path}: not the cell that its name says; delete it to have it made again")
        return Answered(kept, load_items(_items(stem, "default")), load_items(_items(stem, "best")))

    def write(self, key: Key, done: Answered) -> None:
        """Write a cell; its own file comes last."""
        stem = self._stem(key, done.kept.fingerprint)
        stem.parent.mkdir(parents=True, exist_ok=True)
        save_items(_items(stem, "default"), done.default)
        save_items(_items(stem, "best"), done.best)
        write_json(stem.with_name(f"{stem.name}.json"), sealed(done.kept.model_dump(mode="json")))

    def bench_folder(self, key: Key, about: dict[str, object]) -> Path:
        """Return the folder in which a cell is made, from which a killed one goes on; answers of others are there."""
        folder = self._stem(key, fingerprint_of(about))
        (folder / "items").mkdir(parents=True, exist_ok=True)
        _lend(sorted(self._shared(key, about).glob("kept-*.jsonl")), folder / "items")
        return folder

    def _shared(self, key: Key, about: dict[str, object]) -> Path:
        return self._answers / key.task / alike(about)

    def close(self, key: Key, about: dict[str, object]) -> None:
        """Keep the answers of a finished cell for the others, and remove what it was made in."""
        folder, shared = self._stem(key, fingerprint_of(about)), self._shared(key, about)
        shared.mkdir(parents=True, exist_ok=True)
        _lend(sorted((folder / "items").glob("kept-*.jsonl")), shared)
        shutil.rmtree(folder)


def _items(stem: Path, rule: str) -> Path:
    return stem.with_name(f"{stem.name}.{rule}.jsonl")


def _lend(files: Iterable[Path], folder: Path) -> None:
    """Put files into another folder, in one step each; they are replaced and never changed, so a link is a copy."""
    for path in files:
        target = folder / path.name
        if target.exists() and target.stat().st_size >= path.stat().st_size:
            continue
        temporary = folder / f".{path.name}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:  # a file system without links
            with suppress(OSError):
                shutil.copyfile(path, temporary)
        with suppress(OSError):
            temporary.replace(target)


def fill(desk: Desk, shelf: Shelf, key: Key, about: dict[str, object]) -> Answered:
    """Make a cell, judge it, and write it down.

    Args:
        desk: models and sources.
        shelf: where it is kept.
        key: which cell.
        about: what ``depends_on`` returned.

    Raises:
        InputError: the task or the settings cannot be used.
        UnavailableError: something needed is not at hand.
        NotApplicableError: the model's output is not finite, or its strategy has nothing to act on.
    """
    began, row, fingerprint = time.monotonic(), ROWS[key.row], fingerprint_of(about)
    bench = desk.bench(key.task, key.seed, shelf.bench_folder(key, about), row.accept)
    made = candidate(desk, row, bench)
    rule, default, best = judged(bench, made)
    kept = Kept(
        fingerprint=fingerprint,
        depends_on=about,
        rule=rule,
        note=made.note,
        adapter=made.adapter,
        parsable=_parsable(bench, best) if bench.protocol == "generate" else None,
        spent=made.spent,
        seconds=round(time.monotonic() - began, 1),
    )
    done = Answered(kept, default, best)
    shelf.write(key, done)
    shelf.close(key, about)
    return done


def _parsable(bench: Workbench, items: Sequence[Item]) -> float:
    """Return the share of the test part's written answers that give an answer at all."""
    given = [
        item.correct or parsable(bench.task, example, item.text)
        for example, item in zip(bench.splits.test, items, strict=True)
    ]
    return sum(given) / len(given)


def judged(bench: Workbench, made: Candidate) -> tuple[AnswerRule, list[Item], list[Item]]:
    """Return a model's own answer rule, and its answers to the test part by the default rule and by that one.

    The rule is chosen on the reward part, as a run chooses that of its start; the rule of a strategy that is fitted is
    the one of the lowest loss there.
    """
    rule = made.rules[0]
    if len(made.rules) > 1:
        answers = {each: measure_part(bench, made.reward.under(each), "reward", "rule").items for each in made.rules}
        rule = min(answers, key=lambda each: losses(answers[each]).mean()) if made.fitted else best_rule(answers)
    model = made.test()
    default = measure_part(bench, model.under(AnswerRule()), "test", "judged-default").items
    return rule, default, measure_part(bench, model.under(rule), "test", "judged").items
