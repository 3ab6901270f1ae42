"""What a model thinks of each choice without the question: the priors that answer rules take off.

Source: Holtzman et al., 2021 (an empty question); Zhao et al., 2021 (several neutral ones, their probabilities
averaged); Zhou et al., 2023 (the mean over a batch of unlabelled prompts).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import torch

from cao.errors import NotApplicableError
from cao.inference.scoring import score_queries
from cao.model.language_model import LanguageModel
from cao.model.soft_prompt.either import load_carried
from cao.progress import Progress, silent
from cao.tasks.base import Task
from cao.types import AdapterRef, AnswerStyle, Branch, Example, Item, PriorKind, Query
from tools.evaluate.answer_rule import Prior

NEUTRAL = ("", "N/A", "[MASK]")
"""Questions that ask nothing."""

LABELS = 64
"""Distinct texts of choices up to which they are labels, and are read behind every neutral question; where each
question has texts of its own, they are read behind the first one alone, since three would cost more than the answers.
"""

TOGETHER = 8
"""Texts that are read behind one neutral question at once."""


@contextmanager
def with_adapter(lm: LanguageModel, reference: AdapterRef | None) -> Iterator[None]:
    """Put an adapter on for a while; None is the plain base model."""
    weights = None if reference is None else load_carried(Path(reference.path), lm.sha256)
    with lm.adapted(weights):
        yield


def scored_texts(task: Task, example: Example, style: AnswerStyle) -> list[str]:
    """Return the choices of a question as they are scored.

    Raises:
        NotApplicableError: the choices themselves are not scored, but what follows them.
    """
    branches = task.query(example, style).branches
    if any(branch.lead for branch in branches):
        raise NotApplicableError(f"{task.name} scores what follows a choice: its choices have no prior")
    return [branch.scored for branch in branches]


def same_choices(task: Task, examples: Sequence[Example], style: AnswerStyle) -> bool:
    """Return whether every question has the same two or more choices, in any order, as they are scored."""
    try:
        kinds = {frozenset(scored_texts(task, example, style)) for example in examples}
    except NotApplicableError:
        return False
    return len(kinds) == 1 and len(next(iter(kinds))) > 1


def priors_of(task: Task, examples: Sequence[Example], style: AnswerStyle) -> tuple[PriorKind, ...]:
    """Return the priors that a rule can take off the answers to these questions; no answer is read."""
    scored = not any(branch.lead for example in examples for branch in task.query(example, style).branches)
    able = {"none": True, "choice": scored, "batch": same_choices(task, examples, style)}
    return tuple(kind for kind in get_args(PriorKind) if able[kind])


def neutral_questions(task: Task, examples: Sequence[Example], style: AnswerStyle) -> int:
    """Return behind how many neutral questions the texts of these questions' choices are read."""
    texts = {text for example in examples for text in scored_texts(task, example, style)}
    return len(NEUTRAL) if len(texts) <= LABELS else 1


def choice_prior(
    task: Task,
    examples: Sequence[Example],
    lm: LanguageModel,
    progress: Progress = silent,
    *,
    neutral: int | None = None,
) -> Prior:
    """Return the log of each choice's mean probability behind neutral questions, nats; equal texts are read once.

    Args:
        task: how questions are asked.
        examples: Q questions; the texts of their choices count, their answers do not.
        lm: the model, with its adapter.
        progress: told about long work.
        neutral: behind how many neutral questions they are read; None decides by these questions.

    Raises:
        NotApplicableError: choices have no prior here, or the model's output is not finite.
    """
    style = lm.profile.answer_style
    texts = list(dict.fromkeys(text for example in examples for text in scored_texts(task, example, style)))
    wanted = neutral_questions(task, examples, style) if neutral is None else neutral
    prefixes = [task.neutral(style, text) for text in NEUTRAL[:wanted]]
    groups = [texts[start : start + TOGETHER] for start in range(0, len(texts), TOGETHER)]
    queries = [
        Query(prefix=prefix, branches=tuple(Branch(scored=text) for text in group))
        for prefix in prefixes
        for group in groups
    ]
    scores = [branch.logprob for query in score_queries(lm, queries, progress=progress) for branch in query.branches]
    table = torch.tensor(scores, dtype=torch.double).view(len(prefixes), len(texts))
    mean = table.logsumexp(0) - math.log(len(prefixes))
    return dict(zip(texts, mean.tolist(), strict=True))


def batch_prior(task: Task, examples: Sequence[Example], items: Sequence[Item], style: AnswerStyle) -> Prior:
    """Return the log of each label's mean probability among the labels, over unlabelled prompts.

    Args:
        task: how questions are asked.
        examples: N prompts with their choices.
        items: what a model gives their choices.
        style: how the model is asked.

    Raises:
        NotApplicableError: the choices are not the same words in every question.
    """
    if not same_choices(task, examples, style):
        raise NotApplicableError("the prior batch needs choices that are the same words in every question")
    texts = scored_texts(task, examples[0], style)
    shares = []
    for example, item in zip(examples, items, strict=True):
        given = torch.tensor([choice.logprob for choice in item.choices], dtype=torch.double).log_softmax(0)
        named = dict(zip(scored_texts(task, example, style), given.tolist(), strict=True))
        shares.append([named[text] for text in texts])
    mean = torch.tensor(shares, dtype=torch.double).logsumexp(0) - math.log(len(shares))
    return dict(zip(texts, mean.tolist(), strict=True))
