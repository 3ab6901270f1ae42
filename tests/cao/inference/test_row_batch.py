"""Rows that join and leave while they are written give what each gives alone."""

import pytest
import torch

from cao.inference.generation import generate
from cao.inference.row_batch import RowBatch
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row

PROMPTS = [
    "Question: Which of these animals can fly?\nAnswer:",
    "Tom",
    "Why do plants need the sun? Because",
    "the bird",
]


def row(lm: LanguageModel, prompt: str) -> Row:
    tokens = lm.encode(prompt)
    return Row(tokens, len(tokens), (), 0)


@torch.inference_mode()
def advance(batch: RowBatch, texts: list[list[int]], keep: list[int]) -> list[list[int]]:
    """Write a token greedily in each row, then keep some."""
    tokens = batch.lm.logits(batch.step()).float().argmax(-1).tolist()
    for text, token in zip(texts, tokens, strict=True):
        text.append(token)
    batch.go_on(keep, [tokens[slot] for slot in keep])
    batch.trim()
    return [texts[slot] for slot in keep]


@pytest.mark.parametrize("later", [0, 1, 2, 3])
def test_rows_that_join_late_write_what_they_write_alone(tiny_lm: LanguageModel, later: int) -> None:
    tiny_lm.model.float()
    wanted = [one.text for one in generate(tiny_lm, PROMPTS, max_new_tokens=12)]
    texts: list[list[int]] = [[] for _ in PROMPTS]
    early = [i for i in range(len(PROMPTS)) if i != later]
    batch, live = RowBatch(tiny_lm, [row(tiny_lm, PROMPTS[i]) for i in early]), [texts[i] for i in early]
    for _ in range(5):
        live = advance(batch, live, [0, 1, 2])
    live = advance(batch, live, [0, 2])  # one leaves
    other, alone = RowBatch(tiny_lm, [row(tiny_lm, PROMPTS[later])]), [texts[later]]
    alone = advance(other, alone, [0])
    assert batch.join(other)
    live += alone
    for _ in range(5):
        live = advance(batch, live, [0, 1, 2])
    for i, text in enumerate(texts):
        written = tiny_lm.tokenizer.decode(text, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert len(text) >= 6
        assert wanted[i].startswith(written)


def test_columns_that_no_row_reads_are_forgotten(tiny_lm: LanguageModel) -> None:
    long = row(tiny_lm, "the bird can fly and the bird can sleep and the bird can run " * 3)
    batch = RowBatch(tiny_lm, [long, row(tiny_lm, "Tom")])
    texts = advance(batch, [[], []], [0, 1])
    before = batch.width
    advance(batch, texts, [1])
    assert before > len(long.tokens)
    assert batch.width < 8
