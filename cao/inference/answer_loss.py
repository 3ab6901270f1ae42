"""Gold answers as a training signal: the cross-entropy of the answer's text behind its question.

Source: CAO-LLM Table 8 (checkpoints are trained on question-answer pairs); only the answer's tokens are in the loss.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cao.inference.scoring import plan_row, shortened_row
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.model.packing import packed_hidden
from cao.tasks.base import Task
from cao.types import Example

T = TypeVar("T")

PART_TOKENS = 1024
"""Tokens that one graph is built over, at most, as far as questions are shorter: what a graph holds grows with them."""
PART_NUMBERS = 570_000_000
"""Tokens of one graph times the inputs and outputs of the adapted matrices, at most: 1,024 tokens of Qwen2.5-0.5B. So
the graphs of larger models hold no more than its own."""


KEPT_PARTS = 2
"""Parts whose graphs are held together where a batch's loss is no sum over its questions; beyond, what was read is read
again for its gradient."""


def part_tokens(width: int) -> int:
    """Return the tokens that one graph through a model is built over, at most.

    Args:
        width: inputs and outputs of the matrices that carry LoRA, together; 0 where that is not known.
    """
    return min(PART_TOKENS, max(1, PART_NUMBERS // max(1, width)))


def answer_rows(lm: LanguageModel, task: Task, examples: Sequence[Example], limit: int) -> list[Row]:
    """Tokenise each example's prompt with its gold answer alone behind it.

    Args:
        lm: the model; its profile says whether answers are texts or letters.
        task: how it is asked.
        examples: with choices; one without has no gold branch and is left out.
        limit: tokens of a row; a longer one keeps what opens every text, and its end: the answer and what is before it.
    """
    rows = []
    for example in examples:
        if not example.choices:
            continue
        query = task.query(example, lm.profile.answer_style)
        row = plan_row(lm, query.model_copy(update={"branches": (query.branches[example.answer],)}))
        cut = max(0, min(len(row.tokens) - limit, row.prompt - 1))
        rows.append(shortened_row(lm, row, cut))
    return rows


def answer_loss(lm: LanguageModel, rows: Sequence[Row], *, gradient: bool) -> Tensor:
    """Return the mean cross-entropy of the answers' tokens, nats, over all tokens of the batch.

    Args:
        lm: the model with the adapter that is judged or trained.
        rows: B questions with one answer each.
        gradient: whether a graph is built.
    """
    with torch.set_grad_enabled(gradient):
        return torch.stack([part for _, part in by_parts(_summed, lm, rows)]).sum() / _scored_tokens(rows)


def add_answer_gradient(lm: LanguageModel, rows: Sequence[Row]) -> float:
    """Add the gradient of ``answer_loss`` to the trained parameters' and return the loss, nats per answer token.

    A batch's loss is a sum over its questions, so that the gradient of a part at a time is the batch's. One part's
    graph is held at a time, of ``part_tokens`` or of one question that is longer.

    Args:
        lm: the model with the adapter that is trained.
        rows: B questions with one answer each.
    """
    tokens, loss = _scored_tokens(rows), 0.0
    for part in parts(rows, part_tokens(lm.profile.adapter)):
        with torch.enable_grad():
            share = _summed(lm, part) / tokens
        share.backward()  # type: ignore[no-untyped-call]
        loss += float(share.detach())
    return loss


def parts(rows: Sequence[Row], most: int) -> Iterator[list[Row]]:
    """Yield the rows in their order, in parts of at most so many tokens, or of one row that is longer."""
    part, tokens = list[Row](), 0
    for row in rows:
        if part and tokens + len(row.tokens) > most:
            yield part
            part, tokens = [], 0
        part.append(row)
        tokens += len(row.tokens)
    if part:
        yield part


def by_parts(
    compute: Callable[[LanguageModel, Sequence[Row]], T], lm: LanguageModel, rows: Sequence[Row]
) -> list[tuple[list[int], T]]:
    """Return what is computed of rows, in one piece or, where its graph would be too large to hold, part by part.

    Then every part is computed twice, once forward and once again for its gradient, and one graph is held at a time.

    Args:
        compute: model and some rows → tensors, with a graph where one is built.
        lm: the model.
        rows: all of them.

    Returns:
        Of each part which rows it has, and what was computed of them.
    """
    most = KEPT_PARTS * part_tokens(lm.profile.adapter)
    lengths = [len(row.tokens) for row in rows]
    if not torch.is_grad_enabled() or len(rows) * max(lengths) <= most:
        return [(list(range(len(rows))), compute(lm, rows))]
    several: list[list[int]] = [[]]
    for place in sorted(range(len(rows)), key=lengths.__getitem__):  # padded to the last one's length
        if several[-1] and (len(several[-1]) + 1) * lengths[place] > most:
            several.append([])
        several[-1].append(place)
    return [(part, checkpoint(compute, lm, [rows[i] for i in part], use_reentrant=False)) for part in several]


def _summed(lm: LanguageModel, rows: Sequence[Row]) -> Tensor:
    """Return the cross-entropy of the answers' tokens in nats, summed."""
    texts = [row.tokens for row in rows]
    begins = [0, *accumulate(map(len, texts))][:-1]
    places = torch.cat([_scored(row) + begin for row, begin in zip(rows, begins, strict=True)])
    targets = torch.tensor([token for text in texts for token in text])[places].to(lm.device)
    with lm.mixed_precision():
        hidden = packed_hidden(lm, texts)
        logits = lm.logits(hidden[(places - 1).to(lm.device)])
    return nn.functional.cross_entropy(logits.float(), targets, reduction="sum")


def _scored_tokens(rows: Sequence[Row]) -> int:
    return sum(row.spans[0].end - row.spans[0].scored for row in rows)


def _scored(row: Row) -> Tensor:
    """Return the places of the answer's tokens in its row."""
    return torch.arange(row.spans[0].scored, row.spans[0].end)
