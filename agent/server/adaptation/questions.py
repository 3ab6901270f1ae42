"""The questions that a run is given: those that its reader takes, each once, in files that are never written again."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cao.errors import InputError
from cao.files import sha256_bytes, whole_lines, write_atomic
from cao.reading import FileReading
from cao.tasks.base import read_id
from cao.tasks.files.answers import understood
from cao.tasks.files.keys import KeyMap
from cao.tasks.files.rows import Row, Table, typed
from cao.tasks.prompt_file import value_of

LEAST_LABELLED = 56
"""Questions with their answers that a run needs to accept anything."""
LEAST_PROMPTS = 8
"""Of a window, for the tools; fewer are of no use beside questions."""
BY_INDEX = "answer=answer:0"
"""How answers to questions with choices are to be read: a choice may be a number, too."""

Question = dict[str, object]
"""A line of a task's file."""


@dataclass(frozen=True)
class Material:
    """What a run for a task is given.

    Attributes:
        known: questions with their right answers that are at hand.
        questions: the task's file.
        prompts: for the tools, None for a share of the questions.
        ranked: whether its questions have choices and answers.
    """

    known: int
    questions: Path
    prompts: Path | None = None
    ranked: bool = False

    @property
    def enough(self) -> bool:
        """Whether a run on them may accept something."""
        return self.known >= LEAST_LABELLED

    def known_to(self, run: FileReading | None) -> int:
        """Return how many answers a run knew: one that was begun earlier knew others than are at hand now.

        Args:
            run: how it read its file, None where that is not recorded.
        """
        if run is None:
            return self.known if self.enough else 0
        return run.questions if run.answers != "none" else 0


def material(folder: Path, task: str, labelled: Iterable[Question], window: Iterable[Question]) -> Material:
    """Write what a run is given; a file is named by what it holds, so that a run that was begun finds its own.

    Args:
        folder: of these files.
        task: it is for.
        labelled: questions with their right answers.
        window: questions behind the alarm.

    Raises:
        NoRoomError: there is no room for the files.
    """
    known, seen = of_one_kind(labelled), of_one_kind(window)
    shown = [row for row in of_one_kind(window, like=known) if len(known) >= LEAST_LABELLED]
    enough = len(known) >= LEAST_LABELLED
    folder.mkdir(exist_ok=True)
    return Material(
        len(known),
        _written(folder, task, known if enough else seen),
        _written(folder, task, shown) if len(shown) >= LEAST_PROMPTS else None,
        enough and bool(known[0].get("choices")),
    )


def _written(folder: Path, task: str, rows: Sequence[Question]) -> Path:
    """Write rows to a file that is named by them; return its path."""
    text = lines(rows)
    path = (folder / f"{task}-{sha256_bytes(text.encode())[:16]}.jsonl").absolute()
    write_atomic(path, text)
    return path


def window_rows(path: Path) -> dict[str, Question]:
    """Return the questions of a window behind an alarm, each under its response's id."""
    rows: dict[str, Question] = {}
    for number, line in enumerate(whole_lines(path)):
        value = value_of(line, "the line")
        if isinstance(value, dict):
            kept = {key: value[key] for key in ("context", "choices") if value.get(key)}
            rows[str(value.get("id", number))] = {"question": value.get("prompt"), **kept}
    return rows


def of_one_kind(rows: Iterable[Question], like: Sequence[Question] = ()) -> list[Question]:
    """Return those with choices or those without, whichever are more.

    What a run would not read is left out, and of questions that it takes for one the latest counts: a run refuses a
    file as a whole.

    Args:
        rows: in the order in which they came.
        like: of which kind they shall be, where there is one.
    """
    once = {key: row for row in rows if (key := _key(json.dumps(row))) is not None}
    ranked = [row for row in once.values() if row.get("choices")]
    written = [row for row in once.values() if not row.get("choices")]
    choose = bool(like[0].get("choices")) if like else len(ranked) >= len(written)
    return ranked if choose else written


@lru_cache(65_536)
def _key(line: str) -> str | None:
    """Return by what a run knows a question again, None where it would refuse it."""
    row = json.loads(line)
    given = KeyMap.parse(BY_INDEX) if "answer" in row else KeyMap()
    try:
        (example,), _ = understood(Path(), Table("JSONL", [Row(1, {key: typed(row[key]) for key in row})]), given)
    except InputError:
        return None
    return read_id(example.context, example.question, *sorted(example.choices if row.get("choices") else ()))


def lines(rows: Sequence[Question] | Sequence[Mapping[str, object]]) -> str:
    """Return a task's file."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
