"""Prompts that are too long: what is left out, and what stays before the rest."""

import pytest

from cao.inference.answer_loss import answer_rows
from cao.inference.choice_loss import choice_rows
from cao.inference.generation import generate
from cao.inference.scoring import ending, plan_row, shortened, start_token
from cao.model.language_model import LanguageModel
from cao.tasks.base import choice_example
from cao.types import Branch, Query
from tests.tools.tiny_training import TASKS


def question(prefix: str, *scored: str) -> Query:
    return Query(prefix=prefix, branches=tuple(Branch(scored=text) for text in scored))


def opened(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> int:
    """Have every text begin with a token of its own, as tokenizers of other models have it; return the token."""
    plain, first = type(lm).encode, start_token(lm)
    monkeypatch.setattr(type(lm), "encode", lambda self, text, **how: [first, *plain(self, text, **how)])
    return first


def test_what_opens_every_text_stays_before_a_prompt_that_is_cut(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(tiny_lm, monkeypatch)
    long = question("Which of these animals can fly? " * 20 + "Answer:", " the bird", " A")
    whole = plan_row(tiny_lm, long)
    assert (whole.tokens[0], whole.cut) == (first, 0)
    tiny_lm.model.config.max_position_embeddings = 40
    cut = plan_row(tiny_lm, long)
    assert cut.tokens[0] == first
    assert cut.tokens[1 : cut.prompt] == whole.tokens[cut.cut + 1 : whole.prompt]
    assert cut.prompt == whole.prompt - cut.cut
    assert max(span.end for span in cut.spans) - cut.prompt >= 40 - cut.prompt > 0
    assert [(span.end - span.scored) for span in cut.spans] == [(span.end - span.scored) for span in whole.spans]
    (written,) = generate(tiny_lm, [long.prefix], max_new_tokens=8)
    assert written.cut > 0
    tokens = tiny_lm.encode(long.prefix)
    assert shortened(tiny_lm, tokens, 5) == [first, *tokens[6:]]
    assert shortened(tiny_lm, tokens, 0) == tokens
    assert shortened(tiny_lm, tokens[:3], 3) == []


def test_rows_of_training_keep_what_opens_every_text(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(tiny_lm, monkeypatch)
    task, long = TASKS["animals"], [choice_example("word " * 80 + "which?", ("a", "b"), 1)]
    for rows in (
        lambda limit: answer_rows(tiny_lm, task, long, limit)[0],
        lambda limit: choice_rows(tiny_lm, task, long, limit)[0].row,
    ):
        whole, cut = rows(10_000), rows(60)
        assert len(cut.tokens) == 60
        assert cut.tokens == [first, *whole.tokens[-59:]]
        assert cut.cut == len(whole.tokens) - 60
        scored = [(whole.tokens[at], whole.tokens[before]) for _, at, before in whole.scored()]
        assert [(cut.tokens[at], cut.tokens[before]) for _, at, before in cut.scored()] == scored


def test_a_prompt_that_is_trained_on_keeps_what_opens_every_text(
    tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(tiny_lm, monkeypatch)
    tokens = tiny_lm.encode("word " * 30)
    assert ending(tiny_lm, "word " * 30, 10) == [first, *tokens[-9:]]
    assert ending(tiny_lm, "word " * 30, len(tokens)) == tokens
