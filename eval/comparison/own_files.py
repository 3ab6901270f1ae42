"""This project's own files of answers: a run's folder, a file of its items, and what ``eval.score --json`` printed."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, StrictBool

from agent.record.page.questions import QUESTIONS_FILE, Kept
from agent.record.reading import read_run
from cao.errors import InputError
from cao.tasks.base import as_read
from cao.types import Item
from eval.comparison.answers import (
    BY_ID,
    Answered,
    Name,
    Side,
    check_file,
    checked_scores,
    names_of,
    once,
    parsed,
    read_lines,
)
from tools.evaluate import load_items

ADAPTED = "test-adapted.jsonl"


class ScoredItem(BaseModel):
    """A question's answer as ``eval.score`` prints it; see ``cao.types.Item``."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    id: str
    scores: tuple[float, ...] = ()
    gold: int = -1
    correct: StrictBool


class ScoreOutput(BaseModel):
    """What ``eval.score --json`` prints, as far as it is read here."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    task: str
    model: str
    adapter: str | None = None
    protocol: str
    items: tuple[ScoredItem, ...]


def read_run_folder(folder: Path) -> Side:
    """Return what a finished run's adopted model answers on the test part, by its own answer rule.

    Raises:
        InputError: the folder is no run's, the run is not finished or has no right answers, or a file is damaged.
    """
    if not any((folder / name).is_file() for name in ("run.json", "config.json")):
        raise InputError(f"{folder}: is no run's folder; it has no run.json")
    run = read_run(folder.resolve())
    if not (folder / "run.json").is_file():
        raise InputError(f"{folder}: the run is not finished; go on with python -m agent.run --resume {folder.name}")
    if run.test is None:
        raise InputError(f"{folder}: the run has no test figures, because its questions have no known answers")
    items = folder / "items" / ADAPTED
    side = read_items(items)
    if len(side.answers) != run.test.adapted.n:
        told = f"{len(side.answers)} answers, and run.json tells of {run.test.adapted.n}"
        raise InputError(f"{items}: damaged; it holds {told}")
    rule = f"{run.protocol}, its own answer rule"
    return Side(str(folder), "run: test, what it adopted", run.task, run.model, rule, side.answers)


def read_items(file: Path) -> Side:
    """Return the answers of one file below a run's ``items/``; the questions beside it tell their texts.

    Raises:
        InputError: a file is damaged.
    """
    check_file(file)
    items, questions = load_items(file), file.parent / QUESTIONS_FILE
    texts = {kept.id: kept for _, kept in read_lines(questions, Kept)} if questions.is_file() else {}
    return Side(str(file), "items of a run", None, None, "as they were graded", _answers(items, file, texts))


def read_score(file: Path) -> Side:
    """Return the answers of an output of ``eval.score --json``.

    Raises:
        InputError: it is something else.
    """
    check_file(file)
    output = parsed(file.read_bytes(), ScoreOutput, f"{file}: no output of eval.score --json")
    model = f"{output.model} + adapter {output.adapter[:8]}" if output.adapter else output.model
    return Side(str(file), "eval.score", output.task, model, output.protocol, _answers(output.items, file, {}))


def _answers(items: Sequence[Item | ScoredItem], file: Path, texts: dict[str, Kept]) -> list[Answered]:
    once([item.id for item in items], file)
    return [_answer(item, texts.get(item.id), f"{file}: question {number}") for number, item in enumerate(items, 1)]


def _answer(item: Item | ScoredItem, kept: Kept | None, place: str) -> Answered:
    names: list[Name] = [(BY_ID, item.id)]
    gold = ""
    if kept is not None:
        names += names_of(kept.context, kept.question, kept.choices)
        gold = as_read(kept.choices[kept.answer]) if 0 <= kept.answer < len(kept.choices) else ""
    scores = checked_scores(item.scores, item.gold, place)
    return Answered(tuple(dict.fromkeys(names)), (item.correct,), scores, item.gold, gold)
