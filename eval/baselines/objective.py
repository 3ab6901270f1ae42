"""What a baseline's training asks of the model, and how many tokens that reads.

The papers' baselines learn the gold answer's text. The generator may learn to choose as well; under equal rules the
baselines learn what it learns.
"""

from collections.abc import Sequence

from torch import Tensor

from cao.configuration import Amount
from cao.errors import InputError
from cao.inference.answer_loss import answer_rows
from cao.inference.choice_loss import ChoiceRow, choice_rows
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.tasks.base import Task
from cao.types import Example, Record
from tools.generate_lora.sources import GeneratorPreset
from tools.generate_lora.training_step import question_loss

Questions = Sequence[Row | ChoiceRow]


class Objective(Record):
    """Weights of the loss of a question.

    Attributes:
        answers: of the gold answer's cross-entropy.
        choices: of the log-loss of choosing it among its question's choices.
    """

    answers: Amount = 1.0
    choices: Amount = 0.0

    def rows(self, lm: LanguageModel, task: Task, examples: Sequence[Example], limit: int) -> Questions:
        """Return examples as this loss reads them.

        Args:
            lm: the model.
            task: how they are asked.
            examples: with labels.
            limit: tokens of a row, at most.

        Raises:
            InputError: none of them has choices.
        """
        made: Questions = (choice_rows if self.choices else answer_rows)(lm, task, examples, limit)
        if not made:
            raise InputError(f"{task.name}: no questions with choices to train on")
        return made

    def loss(self, lm: LanguageModel, rows: Questions, *, gradient: bool) -> Tensor:
        """Return the loss of questions under the model as it is dressed, nats."""
        weights = GeneratorPreset(steps=1, answers=self.answers, choices=self.choices)
        whole = [row for row in rows if isinstance(row, ChoiceRow)]
        return question_loss(lm, whole or [row for row in rows if isinstance(row, Row)], weights, gradient=gradient)


def tokens_of(rows: Questions) -> int:
    """Return the tokens that a pass over questions reads, prompts and answers."""
    return sum(len((row.row if isinstance(row, ChoiceRow) else row).tokens) for row in rows)
