"""Choices as a training signal: how much of its question's probability the gold answer has.

The cross-entropy of a gold answer says what answers look like; its share among the choices of its own question says
which one is right. Both come from one pass over a question with all of its choices. The share is taken of the scores
that answer rules are made of: log p of a choice, and log p over its length. Scores are put to one spread first, that of
the batch they stand in: a task with long answers has no larger loss than one with short ones, and scale buys nothing.

Source: CAO-LLM Table 8 (question-answer pairs); the share among the choices is this project's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cao.inference.answer_loss import by_parts
from cao.inference.scoring import plan_row, shortened_row
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Packed, Row, tree_states
from cao.tasks.base import Task
from cao.types import Example

SHARPNESS = 1.5
"""Spread of the scores within a question, as the softmax sees them: a mean over the batch."""


@dataclass(frozen=True)
class ChoiceRow:
    """One question with all of its choices, as it is trained on.

    Attributes:
        row: the prompt and one branch for each of k choices.
        gold: which choice is right.
        chars: characters of each choice as it is scored, 1 or more.
    """

    row: Row
    gold: int
    chars: tuple[int, ...]


def choice_rows(lm: LanguageModel, task: Task, examples: Sequence[Example], limit: int) -> list[ChoiceRow]:
    """Tokenise each example's prompt with all of its choices behind it.

    Args:
        lm: the model; its profile says whether answers are texts or letters.
        task: how it is asked.
        examples: those with fewer than two choices are left out: they have nothing to choose.
        limit: tokens of a row; a longer one loses the beginning of its prompt, but not what opens every text, and is
            left out where its choices alone are longer.
    """
    rows = []
    for example in examples:
        if len(example.choices) < 2:
            continue
        query = task.query(example, lm.profile.answer_style)
        row = plan_row(lm, query)
        cut = max(0, len(row.tokens) - limit)
        if cut >= row.prompt:
            continue
        chars = tuple(max(1, len(branch.scored.strip())) for branch in query.branches)
        rows.append(ChoiceRow(shortened_row(lm, row, cut), example.answer, chars))
    return rows


def choice_loss(lm: LanguageModel, rows: Sequence[ChoiceRow], *, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return the gold answers' cross-entropy and the log-loss of choosing them.

    Args:
        lm: the model with the adapter that is judged or trained.
        rows: B questions of one task.
        gradient: whether a graph is built.

    Returns:
        Nats per gold token over all gold tokens, and nats a question: the mean over both lengths and all questions of
        −log softmax(1.5 · scores / spread)[gold]. The spread is the root mean square of the scores about their
        question's mean, a constant to the gradient.
    """
    with torch.set_grad_enabled(gradient):
        found = by_parts(_branch_sums, lm, [each.row for each in rows])
        by_place = {place: each for places, part in found for place, each in zip(places, part, strict=True)}
        sums = [by_place[place] for place in range(len(rows))]
        golds, tokens = [each.gold for each in rows], 0
        for each in rows:
            tokens += each.row.spans[each.gold].end - each.row.spans[each.gold].scored
        nll = -torch.stack([scores[gold] for scores, gold in zip(sums, golds, strict=True)]).sum() / tokens
        by_char = [scores / scores.new_tensor(each.chars) for scores, each in zip(sums, rows, strict=True)]
        return nll, (chosen_loss(sums, golds) + chosen_loss(by_char, golds)) / 2


def chosen_loss(scores: Sequence[Tensor], golds: Sequence[int]) -> Tensor:
    """Return the mean log-loss of B questions' scores, (k,) each, at one spread."""
    about = torch.cat([each - each.mean() for each in scores]).detach()
    sharpness = SHARPNESS / about.square().mean().sqrt().clamp(min=1e-6)
    shares = [(sharpness * each).log_softmax(0)[gold] for each, gold in zip(scores, golds, strict=True)]
    return -torch.stack(shares).mean()


def _branch_sums(lm: LanguageModel, rows: Sequence[Row]) -> list[Tensor]:
    """Return log p of each row's branches in nats, (k,) float32 for each of B rows."""
    packed = Packed.of(rows, lm.device)
    before: list[int] = []
    wanted: list[int] = []
    owner: list[int] = []
    number = 0
    for row, places in zip(rows, packed.padded.tolist(), strict=True):
        for branch, at, previous in row.scored():
            before.append(places[previous])
            wanted.append(row.tokens[at])
            owner.append(number + branch)
        number += len(row.spans)
    with lm.mixed_precision():
        hidden = tree_states(lm, packed)
        logits = lm.logits(hidden[torch.tensor(before, device=lm.device)])
    logs = -nn.functional.cross_entropy(logits.float(), torch.tensor(wanted, device=lm.device), reduction="none")
    sums = logs.new_zeros(number).index_add(0, torch.tensor(owner, device=lm.device), logs)
    return list(torch.split(sums, [len(row.spans) for row in rows]))
