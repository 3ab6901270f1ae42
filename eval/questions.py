"""Questions that tables and benchmarks are measured on."""

import random
from collections.abc import Sequence

from cao.errors import InputError
from cao.tasks import TASKS, get_task
from cao.tasks.base import Task
from cao.tasks.splits import Part, part
from cao.types import AnswerStyle, Example


def drawn(name: str, limit: int, kind: Part) -> list[Example]:
    """Return some questions with choices from a task's part, the same ones every time.

    Args:
        name: a task, or a file of one.
        limit: how many at most.
        kind: the part.

    Raises:
        InputError: no such task, or no questions with choices in that part.
    """
    asked = [example for example in part(get_task(name), kind) if example.choices]
    if not asked:
        raise InputError(f"{name} has no questions with choices in its part {kind}")
    return random.Random(0).sample(asked, min(limit, len(asked)))


def as_asked(task: Task, examples: Sequence[Example], style: AnswerStyle) -> list[object]:
    """Return questions with what is right, and as the model is asked them, in JSON values: what a training reads."""
    return [
        [e.model_dump(mode="json"), task.query(e, style).model_dump(mode="json") if e.choices else task.ask(e)]
        for e in examples
    ]


def asked_prompts(task: str, examples: Sequence[Example], style: AnswerStyle) -> list[str]:
    """Return the prompts as the model reads them, without answers; a task vector is made from them."""
    return [TASKS[task].query(example, style).prefix for example in examples]
