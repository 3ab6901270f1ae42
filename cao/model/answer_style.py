"""Whether a model answers better by letters or by texts, measured on a few easy questions."""

from collections.abc import Callable, Sequence

import torch

from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Packed, Row, Span, packed_states
from cao.tasks.base import choice_example, letter_query, text_query
from cao.types import AnswerStyle, Query

_ASKED = (
    ("Which animal can fly?", ("a cow", "a pig", "an eagle", "a horse")),
    ("What do people use to cut paper?", ("scissors", "a spoon", "a pillow", "a cup")),
    ("Which season is the coldest?", ("summer", "winter", "spring", "autumn")),
    ("How many legs does a dog have?", ("two", "six", "eight", "four")),
    ("What colour is fresh grass?", ("purple", "green", "red", "black")),
    ("Where do fish live?", ("in trees", "in the sky", "in caves of ice", "in water")),
    ("What falls from clouds?", ("rain", "sand", "coins", "leaves")),
    ("Which of these is a fruit?", ("a hammer", "a chair", "an apple", "a shoe")),
    ("What gives light during the day?", ("the moon", "the sun", "a stone", "a river")),
    ("Which is the largest number?", ("three", "five", "ninety", "twelve")),
    ("What do you wear on your feet?", ("shoes", "gloves", "a hat", "a scarf")),
    ("In which place do you buy medicine?", ("a stadium", "a cinema", "a beach", "a pharmacy")),
)
"""A question and its choices; the letters of the right ones take turns."""
_RIGHT = (2, 0, 1, 3, 1, 3, 0, 2, 1, 2, 0, 3)
LEAST = 0.5
"""Share of right letters below which a model is taken not to know them: chance is a quarter."""


def measured_style(lm: LanguageModel) -> tuple[AnswerStyle, str]:
    """Return how a model's answers are best ranked, and why in a few words.

    Args:
        lm: the model, without an adapter.
    """
    return style_by(lambda queries: [_best(lm, query) for query in queries])


def style_by(best: Callable[[Sequence[Query]], list[int]]) -> tuple[AnswerStyle, str]:
    """Return how answers are best ranked, and why in a few words.

    Letters are what instruction-tuned models are asked for; they are taken where the model gets half of these questions
    right by them, and no fewer than by the answers' texts.

    Args:
        best: gives the branch of the highest log-probability a token, for each question.
    """
    examples = [choice_example(asked, choices, right) for (asked, choices), right in zip(_ASKED, _RIGHT, strict=True)]
    chosen = best([*map(letter_query, examples), *map(text_query, examples)])
    right = [one == each.answer for one, each in zip(chosen, examples * 2, strict=True)]
    letters, texts = sum(right[: len(examples)]), sum(right[len(examples) :])
    style: AnswerStyle = "letter" if letters >= max(texts, LEAST * len(examples)) else "text"
    return style, f"right on {len(examples)} easy questions: {letters} by letter, {texts} by text"


@torch.no_grad()
def _best(lm: LanguageModel, query: Query) -> int:
    """Return the branch of the highest log-probability a token."""
    prompt = lm.encode(query.prefix)
    branches = [lm.encode(branch.scored, special=False) for branch in query.branches]
    tokens, spans = list(prompt), list[Span]()
    for branch in branches:
        spans.append(Span(len(tokens), len(tokens), len(tokens) + len(branch)))
        tokens += branch
    packed = Packed.of([Row(tokens, len(prompt), tuple(spans))], lm.device)
    states = packed_states(lm, packed)[packed.padded[0]]  # what branches begin with alike lies there once
    logs = lm.logits(states).float().log_softmax(-1)
    scores = []
    for span in spans:
        places = [len(prompt) - 1, *range(span.start, span.end - 1)]
        wanted = torch.tensor(tokens[span.start : span.end], device=logs.device)
        scores.append(float(logs[places].gather(-1, wanted[:, None]).mean()))
    return scores.index(max(scores))
