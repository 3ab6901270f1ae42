"""The model's own option signals: how sure it is of its best answer, and how undecided it is between the answers.

They notice what the prompts' meaning does not show, such as harder questions of the same kind. They cost a call of
the model for each prompt, so they are a second, later look.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cao.inference.scoring import score_queries
from cao.model.language_model import LanguageModel
from cao.progress import Progress, silent
from cao.tasks.base import Task
from cao.types import Example

PLAIN = Task(name="prompts", title="", source="", load=list)
"""Every prompt is asked in the same plain form, whatever task it belongs to: a form would be a signal too."""


CHARACTERS = 10
"""The entropy is that of options of about this many characters: per character, all options look alike."""


def option_signals(
    examples: Sequence[Example],
    lm: LanguageModel,
    progress: Progress = silent,
) -> tuple[Tensor, list[bool]]:
    """Ask the model every question and return its signals.

    Args:
        examples: N questions with choices.
        lm: the base model, without an adapter.
        progress: called after each batch.

    Returns:
        (N, 2), float32: the best option's log-likelihood a character, in nats, and the entropy of the options in
        nats over the logarithm of their number; and for each question whether the best option is its answer.
    """
    queries = [PLAIN.query(example, lm.profile.answer_style) for example in examples]
    scored = score_queries(lm, queries, progress=progress)
    scores = [[branch.per_char for branch in each.branches] for each in scored]
    correct = [each.index(max(each)) == example.answer for each, example in zip(scores, examples, strict=True)]
    rows = [(max(each), _entropy(each)) for each in scores]
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 2), correct


def _entropy(scores: Sequence[float]) -> float:
    logs = (CHARACTERS * torch.tensor(scores, dtype=torch.float64)).log_softmax(0)
    return float(-(logs.exp() * logs).sum()) / math.log(len(scores))
