"""How the likelihoods of a question's choices become its answer, by rules that need no label.

The score of choice c is (log p(c | question) − strength · log p₀(c)) / length(c), and the highest score answers.

- prior ``choice``: p₀(c) is how likely its text is behind an empty question. Strength 1 without a length is PMI_DC.
- prior ``batch``: p₀(c) is its mean probability among the choices over unlabelled prompts; the choices are the same
  words in every question.
- length: 1, the choice's tokens, or its characters.

Equal choices have equal scores, and the first of them is the answer; a single choice is the answer by any rule.

Source: Holtzman et al., Surface Form Competition, 2021, §3.2 (PMI_DC); Zhao et al., Calibrate Before Use, 2021, §4
(several neutral questions); Zhou et al., Batch Calibration, 2023, §3 (the mean over a batch); Brown et al., 2020, §2.4
(length). The strength and the combinations are ours.
"""

import math
from collections.abc import Mapping, Sequence

import torch

from cao.errors import NotApplicableError
from cao.types import AnswerRule, ChoiceLikelihood, Example, Item

Prior = Mapping[str, float]
"""A choice's text as it is scored → log p₀, in nats."""

KEPT = ("gold_nll", "gold_chars", "choices", "member")
"""What another rule leaves of an item as it is."""

RULES = (
    AnswerRule(),
    AnswerRule(length="none"),
    AnswerRule(prior="choice", strength=1.0, length="none"),
    AnswerRule(prior="choice", strength=0.5, length="char"),
    AnswerRule(prior="batch", strength=1.0, length="char"),
)
"""What a run measures before its loop, for the base model and for its adapters alike; the first is the default."""


def choice_scores(choices: Sequence[ChoiceLikelihood], prior: Sequence[float], rule: AnswerRule) -> list[float]:
    """Return a score for each of k choices, nats per unit of the rule's length.

    Args:
        choices: k, as a model finds them behind the question.
        prior: k values of log p₀ in nats; read only where the rule takes a prior off.
        rule: how they become scores.
    """
    off = [rule.strength * value for value in prior] if rule.prior != "none" else [0.0] * len(choices)
    units = [{"none": 1, "token": choice.tokens, "char": choice.chars}[rule.length] for choice in choices]
    return [(c.logprob - less) / unit for c, less, unit in zip(choices, off, units, strict=True)]


def under_rule(example: Example, item: Item, rule: AnswerRule, prior: Prior, texts: Sequence[str]) -> Item:
    """Return one model's answer to a question under another rule.

    Args:
        example: the question.
        item: the model's answer under any rule; it has what was measured of each choice.
        rule: the rule.
        prior: log p₀ of the choices' texts; empty where the rule takes none off.
        texts: the choices as they are scored.

    Raises:
        NotApplicableError: a choice has no prior, or one that is not finite.
    """
    wanted = [prior.get(text) for text in texts] if rule.prior != "none" else []
    if None in wanted:
        raise NotApplicableError("the prior batch needs choices that are the same words in every question")
    values = [value for value in wanted if value is not None]
    if not all(map(math.isfinite, values)):
        raise NotApplicableError("the prior of a choice is not a finite number")
    return ranked(example, choice_scores(item.choices, values, rule), item)


def ranked(example: Example, scores: Sequence[float], measured: Item | None = None, *, gold_nll: float = 0.0) -> Item:
    """Grade one question from the scores of its choices.

    Args:
        example: the question.
        scores: of its choices.
        measured: what else is known of the answer, and stays.
        gold_nll: of the gold answer, where nothing is known yet.
    """
    gold, choice = example.answer, scores.index(max(scores))
    others = [*scores[:gold], *scores[gold + 1 :]]
    graded = Item(
        id=example.id,
        scores=tuple(scores),
        choice=choice,
        gold=gold,
        correct=choice == gold,
        loss=-float(torch.tensor(scores, dtype=torch.double).log_softmax(0)[gold]),
        margin=scores[gold] - max(others) if others else 0.0,
        gold_nll=gold_nll,
    )
    if measured is None:
        return graded
    return graded.model_copy(update={key: getattr(measured, key) for key in KEPT})
