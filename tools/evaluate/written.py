"""Graded texts, whoever wrote them: a server's answers have no likelihoods of the gold answer, and none are made up."""

from collections.abc import Sequence

from cao.tasks.base import Task
from cao.types import Example, Item, Record


class Written(Record):
    """How one question was answered in writing.

    Attributes:
        id: the example's id.
        choice: index of the choice that the text gives, -1 where it gives none.
        gold: index of the gold answer, -1 without choices.
        correct: whether the answer is right.
        text: what was written.
        guessing: accuracy of drawing lots among the choices that the prompt shows; else 0.
    """

    id: str
    choice: int
    gold: int
    correct: bool
    text: str
    guessing: float = 0.0


def are_written(*sides: Sequence[Item]) -> bool:
    """Return whether models wrote their answers; they have texts and no scores, and so no temperature."""
    return any(item.text for items in sides for item in items)


def grade_texts(task: Task, examples: Sequence[Example], texts: Sequence[str]) -> list[Written]:
    """Grade a text for each question, as the protocol ``generate`` does.

    Args:
        task: how answers are parsed and graded.
        examples: Q questions.
        texts: Q answers in their order.
    """
    return [
        Written(
            id=example.id,
            choice=chosen(task, example, text),
            gold=example.answer,
            correct=task.grade(text, example),
            text=text,
            guessing=task.guessing(example, "generate"),
        )
        for example, text in zip(examples, texts, strict=True)
    ]


def parsable(task: Task, example: Example, text: str) -> bool:
    """Return whether a text is an answer: it names a shown choice, or states a value where none are shown."""
    return chosen(task, example, text) >= 0 if task.shows_choices(example) else task.states(text)


def chosen(task: Task, example: Example, text: str) -> int:
    """Return the one choice that the task would grade ``text`` right for, or -1."""
    others = [example.model_copy(update={"answer": i, "gold_text": choice}) for i, choice in enumerate(example.choices)]
    right = [i for i, other in enumerate(others) if task.grade(text, other)]
    return right[0] if len(right) == 1 else -1
