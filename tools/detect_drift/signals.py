"""The model's own option signals: how sure it is of its best answer, and how undecided it is between the answers.

They notice what the prompts' meaning does not show, such as harder questions of the same kind. They cost a call of
the model for each prompt, so they are a second, later look.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cao.language_model import LanguageModel
from cao.progress import Progress, silent
from cao.tasks.base import Task
from cao.types import AdaptedModel, AdapterRef, Example
from tools.evaluate import evaluate

PLAIN = Task(name="prompts", title="", source="", load=list)
"""Every prompt is asked in the same plain form, whatever task it belongs to: a form would be a signal too."""


CHARACTERS = 10
"""The entropy is that of options of about this many characters: per character, all options look alike."""


def option_signals(
    examples: Sequence[Example],
    lm: LanguageModel,
    adapter: AdapterRef | None = None,
    progress: Progress = silent,
) -> tuple[Tensor, list[bool]]:
    """Ask the model every question and return its signals.

    Args:
        examples: N questions with choices.
        lm: the base model, undressed.
        adapter: what the deployed model carries.
        progress: told after each batch.

    Returns:
        (N, 2), float32: the best option's log-likelihood a character, in nats, and the entropy of the options in
        nats over the logarithm of their number; and for each question whether the best option is its answer.
    """
    items = evaluate(PLAIN, examples, AdaptedModel(members=(adapter,)), "likelihood", lm=lm, progress=progress)
    rows = [(max(item.scores), _entropy(item.scores)) for item in items]
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 2), [item.correct for item in items]


def _entropy(scores: Sequence[float]) -> float:
    logs = (CHARACTERS * torch.tensor(scores, dtype=torch.float64)).log_softmax(0)
    return float(-(logs.exp() * logs).sum()) / math.log(len(scores))
