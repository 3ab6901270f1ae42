"""The packed trunk: attention against a plain loop, layers against the library's, dressed and bare."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cao.model import packed_forward
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Packed, Row, Shared, Span, attend, packed_states


@st.composite
def trees(draw: st.DrawFn) -> Row:
    """A row of a prompt and up to three branches."""
    prompt = draw(st.integers(1, 9))
    ends = [prompt]
    for length in draw(st.lists(st.integers(1, 5), max_size=3)):
        ends.append(ends[-1] + length)
    spans = tuple(Span(start, start, end) for start, end in pairwise(ends))
    return Row(draw(st.lists(st.integers(3, 300), min_size=ends[-1], max_size=ends[-1])), prompt, spans)


FIXTURE = settings(max_examples=30, derandomize=True)


def sees(row: Row, query: int, key: int) -> bool:
    """The rule, token by token."""
    branch = [next((s for s in row.spans if s.start <= t < s.end), None) for t in (query, key)]
    return key <= query and (key < row.prompt or branch[0] == branch[1])


@given(st.lists(trees(), min_size=1, max_size=4))
def test_packing_keeps_every_token_its_place_and_what_it_sees(rows: list[Row]) -> None:
    packed = Packed.of(rows, "cpu")
    side_by_side = packed.tokens[packed.padded].flatten()[packed.flat]
    assert side_by_side.tolist() == packed.tokens.tolist()
    for i, row in enumerate(rows):
        assert packed.tokens[packed.padded[i, : len(row.tokens)]].tolist() == row.tokens
        places = packed.positions[packed.padded[i]].tolist()
        for t in range(len(row.tokens)):
            branch = next((span for span in row.spans if span.start <= t < span.end), None)
            assert places[t] == (t if branch is None else row.prompt + t - branch.start)
            seen = packed.visible[i, t].nonzero()[:, 0].tolist()
            assert seen == [key for key in range(len(row.tokens)) if sees(row, t, key)]


def text_before(row: Row, t: int) -> tuple[int, ...]:
    """What a token's hidden state depends on: the tokens that it sees, itself the last."""
    return tuple(row.tokens[key] for key in range(t + 1) if sees(row, t, key))


@given(st.lists(trees(), min_size=1, max_size=4))
def test_equal_beginnings_are_packed_once_and_different_ones_never_together(rows: list[Row]) -> None:
    few = [Row([token % 3 for token in row.tokens], row.prompt, row.spans) for row in rows]  # many equal beginnings
    shared = Shared.of(few)
    texts = {
        place: text_before(row, t)
        for row, places in zip(few, shared.places, strict=True)
        for t, place in enumerate(places)
    }
    assert sorted(texts) == list(range(len(shared.tokens)))
    assert len(set(texts.values())) == len(texts)
    for row, places in zip(few, shared.places, strict=True):
        assert [texts[place] for place in places] == [text_before(row, t) for t in range(len(row.tokens))]


@pytest.mark.parametrize("block", [1, 3, 128])
def test_attention_is_that_of_a_plain_loop(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(packed_forward, "QUERY_BLOCK", block)
    rows = [Row(list(range(7)), 3, (Span(3, 3, 5), Span(5, 5, 7))), Row([1, 2, 3, 4], 4)]
    visible = Packed.of(rows, "cpu").visible
    bias = torch.zeros(visible.shape).masked_fill(~visible, -math.inf)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 7, heads, 5, generator=generator) for heads in (4, 2, 2))
    found = attend(query, key, value, bias)
    for i, row in enumerate(rows):
        for t in range(len(row.tokens)):
            for head in range(4):
                keys = [k for k in range(len(row.tokens)) if sees(row, t, k)]
                weights = torch.softmax(torch.stack([query[i, t, head] @ key[i, k, head // 2] for k in keys]), dim=0)
                expected = torch.stack([w * value[i, k, head // 2] for w, k in zip(weights, keys, strict=True)]).sum(0)
                torch.testing.assert_close(found[i, t, head], expected)


@FIXTURE
@given(rows=st.lists(trees(), min_size=1, max_size=4))
def test_layers_written_out_are_those_of_the_library_bare_and_dressed(tiny_lm: LanguageModel, rows: list[Row]) -> None:
    tiny_lm.model.float()
    packed = Packed.of(rows, "cpu")
    weights = tiny_lm.fresh_lora(0)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in weights.tensors.items():
        if "lora_B" in name:
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    found = []
    for worn in (None, weights):
        with tiny_lm.adapted(worn):
            found.append(packed_states(tiny_lm, packed))
            expected = packed_forward.library_states(tiny_lm, packed)
        torch.testing.assert_close(found[-1], expected, atol=1e-4, rtol=1e-4)
    assert (found[0] - found[1]).abs().max() > 1e-2  # the adapter is seen


def test_an_architecture_that_is_not_written_out_takes_the_librarys_forward(tiny_lm: LanguageModel) -> None:
    packed = Packed.of([Row([5, 6, 7, 8, 9], 2, (Span(2, 2, 4), Span(4, 4, 5)))], "cpu")
    expected = packed_states(tiny_lm, packed)
    tiny_lm.paths = replace(tiny_lm.paths, layers=False)
    torch.testing.assert_close(packed_states(tiny_lm, packed), expected, atol=0.1, rtol=0.1)
    assert packed_states(tiny_lm, packed).dtype == expected.dtype == torch.bfloat16
