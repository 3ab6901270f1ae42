"""Texts that share a row are read as if each stood alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cao.model import packing
from cao.model.language_model import LanguageModel
from cao.model.packing import packed_hidden, pieces, shelves

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(LENGTHS, st.integers(1, 100))
def test_pieces_keep_the_order_and_the_bound(lengths: list[int], most: int) -> None:
    found = pieces(lengths, most)
    assert [i for piece in found for i in piece] == list(range(len(lengths)))
    for piece in found:
        assert len(piece) == 1 or sum(lengths[i] for i in piece) <= most


@given(LENGTHS, st.integers(40, 100))
def test_shelves_hold_everybody_once_and_two_are_never_half_empty(lengths: list[int], width: int) -> None:
    found = shelves(lengths, width)
    assert sorted(i for row in found for i in row) == list(range(len(lengths)))
    filled = [sum(lengths[i] for i in row) for row in found]
    assert max(filled) <= width
    assert sum(2 * tokens < width for tokens in filled) <= 1


@pytest.mark.parametrize("row_tokens", [1, 20, 256])
def test_a_text_is_read_as_if_alone(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, row_tokens: int) -> None:
    monkeypatch.setattr(packing, "ROW_TOKENS", row_tokens)
    tiny_lm.model = tiny_lm.model.float()
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(5, 300, (n,), generator=generator).tolist() for n in (3, 17, 1, 9, 30, 2)]
    with torch.no_grad():
        found = packed_hidden(tiny_lm, texts)
        alone = [tiny_lm.trunk(input_ids=torch.tensor([text])).last_hidden_state[0] for text in texts]
    assert torch.allclose(found, torch.cat(alone), atol=1e-5)
