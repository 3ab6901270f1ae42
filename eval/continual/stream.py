"""The stream: questions of each segment's task, none twice, and others that are kept apart, as files of one's own."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from cao.errors import InputError
from cao.files import write_atomic
from cao.tasks import get_task
from cao.tasks.base import Task
from cao.tasks.splits import Part, part
from cao.types import Example
from eval.continual.results import Segment

PARTS: tuple[Part, ...] = ("support", "reward", "test")
"""No question that anything that ships was trained on is in the stream."""


@dataclass(frozen=True)
class Laid:
    """A stream on the disk.

    Attributes:
        path: a line for each prompt, with its choices and its answer.
        segments: which task it is from, stretch by stretch.
        asked: the stream's questions, in order, as a user's file has them.
        held: task → the questions kept apart.
        task: how all of them are asked.
    """

    path: Path
    segments: tuple[Segment, ...]
    asked: list[Example]
    held: dict[str, list[Example]]
    task: Task


def lay(folder: Path, tasks: tuple[str, ...], prompts: int, held: int, seed: int) -> Laid:
    """Write a stream's files, the same ones for the same arguments, and return it.

    Args:
        folder: where.
        tasks: of the segments, in order; one may come again, with other questions.
        prompts: of a segment.
        held: questions of each task that are kept apart.
        seed: of the draws.

    Raises:
        InputError: a task has too few questions with choices.
        UnavailableError: a task is not at hand.
    """
    drawn = {task: _drawn(task, prompts * tasks.count(task) + held, seed) for task in dict.fromkeys(tasks)}
    held_rows = {task: rows[:held] for task, rows in drawn.items()}
    left = {task: iter(rows[held:]) for task, rows in drawn.items()}
    rows = [next(left[task]) for task in tasks for _ in range(prompts)]
    path = folder / "stream.jsonl"
    read = _read(path, rows)
    return Laid(
        path=path,
        segments=tuple(Segment(task=task, first=i * prompts, prompts=prompts) for i, task in enumerate(tasks)),
        asked=read.load(),
        held={task: _read(folder / f"held-{task}.jsonl", some).load() for task, some in held_rows.items()},
        task=read,
    )


def _drawn(task: str, count: int, seed: int) -> list[Example]:
    usable = {e.prompt: e for name in PARTS for e in part(get_task(task), name) if e.choices}  # a prompt counts once
    if len(usable) < count:
        raise InputError(
            f"{task} has {len(usable)} questions with choices, the stream takes {count}; give fewer prompts"
        )
    return random.Random(f"{seed}:{task}").sample(list(usable.values()), count)


def _read(path: Path, rows: list[Example]) -> Task:
    """Write questions as a user's file and return them as its task, as many as there are rows."""
    lines = [
        {"question": e.question, "choices": list(e.choices), "answer": e.answer}
        | ({"context": e.context} if e.context else {})
        for e in rows
    ]
    write_atomic(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    task = get_task(str(path))
    assert len(task.load()) == len(rows), "a question of the stream repeats another one"
    return task
