"""The questions of a run as people read them: kept beside the answers, and set against them in the report.

The answers lie in ``items/`` under the questions' ids. A run folder is read as hostile input here too.
"""

import json
import math
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.record.regular import read_regular
from agent.record.wording import count
from cao.errors import InputError
from cao.files import write_atomic
from cao.tasks.splits import Splits

QUESTIONS_FILE = "questions.jsonl"
Z95 = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""
SHOWN = 100
"""Questions that the report holds of those that flipped, and of the others; the rest is in the run's folder."""

CHANGES = {
    (True, False): "became wrong",
    (False, True): "became right",
    (False, False): "stayed wrong",
    (True, True): "stayed right",
}
"""Whether the deployed and the adapted model are right → what became of the question, flips first."""


class _Loose(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str


class Kept(_Loose):
    """A question as it is kept; see ``cao.types.Example``."""

    question: str
    part: str = ""
    context: str = ""
    choices: tuple[str, ...] = ()
    answer: int = -1
    gold_text: str = ""


class Given(_Loose):
    """An answer as it is kept; see ``cao.types.Item``."""

    correct: bool
    choice: int = -1
    text: str = ""


Shape = TypeVar("Shape", bound=_Loose)


@dataclass(frozen=True)
class Choice:
    """One choice, whether it is right, and which models chose it."""

    text: str
    gold: bool
    base: bool
    adapted: bool


@dataclass(frozen=True)
class Side:
    """What one model answered, and whether it is right."""

    text: str
    right: bool


@dataclass(frozen=True)
class Asked:
    """One test question with its answers; without choices these are texts.

    Attributes:
        prompt: the question, its context first.
        choices: those that could be chosen.
        gold: the right answer.
        base: what the deployed model answered.
        adapted: what the adapted model answered, None where nothing was adopted.
        change: one of ``CHANGES``, or ``right`` or ``wrong`` where nothing was adopted.
    """

    prompt: str
    choices: tuple[Choice, ...]
    gold: str
    base: Side
    adapted: Side | None
    change: str


@dataclass(frozen=True)
class Answers:
    """The test questions, flips first, and their counts.

    Attributes:
        sentence: how many became right, and so on.
        counts: what became of questions → how many, those with none left out.
        flips: how many one model answered right and the other did not.
        asked: those that are shown.
        left_out: how many are not.
    """

    sentence: str
    counts: dict[str, int]
    flips: int
    asked: list[Asked]
    left_out: int


def keep_questions(folder: Path, splits: Splits) -> None:
    """Write the reward and test questions beside their answers, in one step.

    Args:
        folder: the run's folder; what a user's file asks stays in it.
        splits: the run's questions.
    """
    lines = []
    for part, examples in (("reward", splits.reward), ("test", splits.test)):
        for example in examples:
            fields = example.model_dump(mode="json", exclude={"group", "accepted", "labelled"})
            lines.append(json.dumps({"part": part, **fields}, ensure_ascii=False) + "\n")
    (folder / "items").mkdir(exist_ok=True)
    write_atomic(folder / "items" / QUESTIONS_FILE, "".join(lines))


def read_answers(folder: Path, *, improved: bool) -> Answers | None:
    """Return the test questions with what was answered, or None where the folder does not hold both.

    Args:
        folder: the run's folder.
        improved: whether the adapted model is another one.
    """
    items = folder / "items"
    questions = [kept for kept in _read(items / QUESTIONS_FILE, Kept) if kept.part == "test"]
    base = {item.id: item for item in _read(items / "test-baseline.jsonl", Given)}
    adapted = {item.id: item for item in _read(items / "test-adapted.jsonl", Given)} if improved else None
    asked = [
        _asked(kept, base[kept.id], adapted[kept.id] if adapted is not None else None)
        for kept in questions
        if kept.id in base and (adapted is None or kept.id in adapted)
    ]
    if not asked:
        return None
    counts = Counter(one.change for one in asked)
    kinds = ("right", "wrong") if adapted is None else tuple(CHANGES.values())
    sentence = f"Of {count(len(asked), 'test question')} " + ", ".join(
        f"{counts[kind]} {kind if adapted is not None else f'were answered {kind}'}" for kind in kinds
    )
    flips = [one for one in asked if one.change.startswith("became")]
    shown = [*flips[:SHOWN], *[one for one in asked if not one.change.startswith("became")][:SHOWN]]
    present = {kind: counts[kind] for kind in kinds if counts[kind]}
    return Answers(f"{sentence}.", present, len(flips), shown, len(asked) - len(shown))


def paired_change(path: Path, before: str, after: str, key: str) -> tuple[float, float, float] | None:
    """Return the mean paired change of one number over the questions, with its normal 95 % interval.

    Args:
        path: the run's folder.
        before: name of the first item file below ``items/``, without its ending.
        after: name of the second one.
        key: ``loss`` (nats) or ``correct`` (0 or 1).

    Returns:
        (mean, low, high) of after minus before, or None where the items are not there or not usable.
    """
    files = [path / "items" / f"{name}.jsonl" for name in (before, after)]
    first, second = _losses(files) if key == "loss" else [_right(file) for file in files]
    changes = [second[item] - first[item] for item in first if item in second]
    if len(changes) < 2:
        return None
    mean = statistics.fmean(changes)
    half = Z95 * statistics.stdev(changes) / math.sqrt(len(changes))
    return mean, mean - half, mean + half


def _asked(kept: Kept, base: Given, adapted: Given | None) -> Asked:
    choices = tuple(
        Choice(text, i == kept.answer, i == base.choice, adapted is not None and i == adapted.choice)
        for i, text in enumerate(kept.choices)
    )
    change = ("right" if base.correct else "wrong") if adapted is None else CHANGES[base.correct, adapted.correct]
    answered = Side(_answer_text(adapted, kept), adapted.correct) if adapted is not None else None
    gold = kept.choices[kept.answer] if 0 <= kept.answer < len(kept.choices) else kept.gold_text
    first = Side(_answer_text(base, kept), base.correct)
    return Asked(f"{kept.context}\n{kept.question}".strip(), choices, gold, first, answered, change)


def _answer_text(given: Given, kept: Kept) -> str:
    """Return what a model answered: what it wrote, or else what it chose."""
    return given.text or (kept.choices[given.choice] if 0 <= given.choice < len(kept.choices) else "")


def _read(file: Path, shape: type[Shape]) -> list[Shape]:
    """Return the lines of a file, none where it is not what this code wrote."""
    try:
        lines = read_regular(file).split(b"\n")
        return [shape.model_validate_json(line) for line in lines if line.strip()]
    except (OSError, ValidationError, RecursionError):
        return []


def _losses(files: list[Path]) -> list[dict[str, float]]:
    """Return each model's losses on the questions that all answered, at its own temperature on these.

    Args:
        files: of items; where one is not what this code wrote, there are no losses.
    """
    from tools.evaluate import load_items  # noqa: PLC0415  (imports torch)
    from tools.evaluate.temperature import losses  # noqa: PLC0415  (imports torch, too)

    try:
        loaded = [load_items(file) for file in files]
    except InputError:
        return [{} for _ in files]
    if not all(0 <= item.gold < len(item.scores) for items in loaded for item in items if item.scores):
        return [{} for _ in files]
    shared = set.intersection(*({item.id for item in items} for items in loaded))
    if not shared:
        return [{} for _ in files]
    kept = [[item for item in items if item.id in shared] for items in loaded]
    return [dict(zip([item.id for item in items], losses(items).tolist(), strict=True)) for items in kept]


def _right(file: Path) -> dict[str, float]:
    """Return 1 for each question answered right and 0 for the others."""
    return {given.id: float(given.correct) for given in _read(file, Given)}
