"""Feedback, kept line by line: what of it is a question with its right answer, for a run to adapt to."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.server.adaptation.questions import Question
from agent.server.errors import ApiError
from agent.server.memory import Answered
from agent.server.wire import Feedback
from cao.errors import InputError
from cao.files import append_line, opened_line, sealed_line, whole_lines
from cao.tasks.base import LETTERS
from cao.tasks.files.free_text import accepted_texts
from cao.tasks.files.rows import BadRowError
from cao.tasks.graders import build_grader
from cao.types import Example, Record


class Label(Record):
    """What feedback said of one answer.

    Attributes:
        id: of the response.
        tasks: that prompts were expected from then.
        model, run: that answered, and the run that adopted it.
        question, context, choices: what was asked.
        answer: the right one, a choice's index or a text; None where it is not known.
        correct: whether the model's answer was right, None where that cannot be told.
    """

    id: str
    tasks: tuple[str, ...]
    model: str
    question: str
    context: str = ""
    choices: tuple[str, ...] = ()
    answer: int | str | None = None
    correct: bool | None = None
    run: str = ""

    def row(self) -> Question:
        """Return it as a task's file has it."""
        row: Question = {"question": self.question}
        row |= {"context": self.context} if self.context.strip() else {}
        row |= {"choices": list(self.choices)} if self.choices else {}
        return row if self.answer is None else {**row, "answer": self.answer}


def label_of(given: Feedback, asked: Answered, grader: str = "auto", known: Sequence[str] = ()) -> Label:
    """Return what feedback says of an answer.

    Args:
        given: the feedback.
        asked: what was asked and answered.
        grader: how runs judge written answers, as ``build_grader`` takes it.
        known: right answers to other questions, of which the grader ``label`` reads what labels there are.

    Raises:
        ApiError: the right answer that it names is none of the choices, or blank.
        InputError: the grader cannot judge by this answer.
    """
    answer, correct = given.answer, given.correct
    if asked.choices:
        index = None if answer is None else _index(answer, asked.choices)
        correct = correct if index is None or asked.choice is None else index == asked.choice
        answer = asked.choice if index is None and correct else index
    else:
        if answer is not None:
            answer = str(answer)
            examples = [_written(asked, text) for text in (_gold(answer), *known)]
            grade = build_grader(grader, examples)
            if correct is None and asked.text is not None:
                correct = bool(asked.text.strip()) and grade(asked.text, examples[0])
        elif correct:
            answer = _readable(asked, grader)
    told = {"question": asked.question, "context": asked.context, "choices": asked.choices}
    said = {"answer": answer, "correct": correct}
    return Label.model_validate(
        {"id": asked.id, "tasks": asked.tasks, "model": asked.model, "run": asked.run, **told, **said}
    )


def _gold(answer: str) -> str:
    """Return a right answer as a run reads it in a file."""
    try:
        return accepted_texts(answer)[0]
    except BadRowError as error:
        raise ApiError(400, str(error), None, "answer") from None


def _readable(asked: Answered, grader: str) -> str | None:
    """Return what was written as a right answer, None where a run would refuse it as one."""
    try:
        build_grader(grader, [_written(asked, accepted_texts(asked.text)[0])])
    except (BadRowError, InputError):
        return None
    return (asked.text or "").strip()


def _written(asked: Answered, gold: str) -> Example:
    return Example(id=asked.id, question=asked.question, context=asked.context, gold_text=gold)


def _index(answer: int | str, choices: tuple[str, ...]) -> int:
    if isinstance(answer, int):
        found = answer if 0 <= answer < len(choices) else None
    elif answer in choices:
        found = choices.index(answer)
    else:
        letter = answer.strip().upper()
        found = LETTERS.index(letter) if len(letter) == 1 and letter in LETTERS[: len(choices)] else None
    if found is None:
        raise ApiError(
            400, f"the answer is none of {len(choices)} choices: give its index, letter or text", None, "answer"
        )
    return found


@dataclass
class Labels:
    """All feedback, in the order in which it came; the latest on an answer counts.

    Attributes:
        path: the file.
    """

    path: Path
    _by_id: dict[str, Label] = field(default_factory=dict, init=False, repr=False)
    _judged: set[str] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        for number, line in enumerate(whole_lines(self.path), 1):
            try:
                label = Label.model_validate_json(opened_line(line))
            except ValueError:
                raise InputError(f"{self.path}:{number}: damaged; take the line out, or give another --out") from None
            self._take(label)

    def add(self, label: Label) -> bool:
        """Keep one that says something new; return whether it is the first that tells whether its answer was right."""
        if self._by_id.get(label.id) == label:
            return False
        append_line(self.path, sealed_line(label.model_dump_json()))
        return self._take(label)

    def _take(self, label: Label) -> bool:
        self._by_id.pop(label.id, None)  # the latest is the last
        self._by_id[label.id] = label
        first = label.correct is not None and label.id not in self._judged
        self._judged |= {label.id} if first else set()
        return first

    def written(self, tasks: tuple[str, ...]) -> list[str]:
        """Return the right answers, each once, of questions without choices that came while these were expected."""
        every = list(self._by_id.values())
        return list(dict.fromkeys(one.answer for one in every if one.tasks == tasks and isinstance(one.answer, str)))

    def of(self, task: str, ids: Collection[str]) -> list[Question]:
        """Return the questions with their right answers that belong to a task, as its file has them; the latest last.

        Args:
            task: prompts were expected from it alone.
            ids: responses that belong to it, whatever was expected then.
        """
        every = list(self._by_id.values())
        return [one.row() for one in every if one.answer is not None and (one.id in ids or one.tasks == (task,))]
