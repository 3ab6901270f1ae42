"""Prompts that are too long: what is left out, and what stays before the rest."""

import pytest

from cao.inference.generation import generate
from cao.inference.scoring import plan_row, shortened, start_token
from cao.model.language_model import LanguageModel
from cao.types import Branch, Query


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
