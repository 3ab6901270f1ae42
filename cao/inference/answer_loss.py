"""Gold answers as a training signal: the cross-entropy of the answer's text behind its question.

Source: CAO-LLM Table 8 (checkpoints are trained on question-answer pairs); only the answer's tokens are in the loss.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from cao.inference.scoring import plan_row
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.model.packing import packed_hidden
from cao.tasks.base import Task
from cao.types import Example


def answer_rows(lm: LanguageModel, task: Task, examples: Sequence[Example], limit: int) -> list[Row]:
    """Tokenise each example's prompt with its gold answer alone behind it.

    Args:
        lm: the model; its profile says whether answers are texts or letters.
        task: how it is asked.
        examples: with choices; one without has no gold branch and is left out.
        limit: tokens of a row; a longer one keeps its end, the answer and what stands before it.
    """
    rows = []
    for example in examples:
        if not example.choices:
            continue
        query = task.query(example, lm.profile.answer_style)
        row = plan_row(lm, query.model_copy(update={"branches": (query.branches[example.answer],)}))
        cut = max(0, min(len(row.tokens) - limit, row.prompt - 1))
        rows.append(row.without(cut))
    return rows


def answer_loss(lm: LanguageModel, rows: Sequence[Row], *, gradient: bool) -> Tensor:
    """Return the mean cross-entropy of the answers' tokens, nats, over all tokens of the batch.

    Args:
        lm: the model with the adapter that is judged or trained.
        rows: B questions with one answer each.
        gradient: whether a graph is built.
    """
    texts = [row.tokens for row in rows]
    begins = [0, *accumulate(map(len, texts))][:-1]
    places = torch.cat([_scored(row) + begin for row, begin in zip(rows, begins, strict=True)])
    targets = torch.tensor([token for text in texts for token in text])[places].to(lm.device)
    with torch.set_grad_enabled(gradient):
        with lm.mixed_precision():
            hidden = packed_hidden(lm, texts)
            logits = lm.logits(hidden[(places - 1).to(lm.device)])
        return nn.functional.cross_entropy(logits.float(), targets)


def _scored(row: Row) -> Tensor:
    """Return the places of the answer's tokens in its row."""
    return torch.arange(row.spans[0].scored, row.spans[0].end)
