"""LoRA tokens: weights come back as they were, padding carries nothing, every token knows its place."""

import json
import math
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from pydantic import ValidationError

from cao.errors import InputError
from cao.model.adapters import initial_lora
from cao.model.profiles import LORA_TARGETS
from cao.types import Record
from tests.tools.generate_lora.tiny_generators import PREFIX, shapes
from tools.generate_lora.statistics import Statistics, StatisticsMode, layer_statistics
from tools.generate_lora.tokens import (
    TokenLayout,
    cut,
    flatten,
    join,
    position_codes,
    unflatten,
)


def payload(layout: TokenLayout) -> torch.Tensor:
    """Return where tokens carry scalars: (J, h, w) bool, False on padding."""
    return cut(torch.ones(layout.layers, layout.length), layout).bool()


class Around(Record):
    layout: TokenLayout


def from_json(text: str) -> TokenLayout:
    """Read a layout as a generator's header is read."""
    return Around.model_validate_json(f'{{"layout": {text}}}', strict=True).layout


SMOLLM2 = TokenLayout.of(shapes(30, 576, 192, 1536), 4, 16, (16, 128))
QWEN_SMALL = TokenLayout.of(shapes(24, 896, 128, 4864), 8, 16, (8, 128))
QWEN_LARGE = TokenLayout.of(shapes(28, 1536, 256, 8960), 16, 16, (16, 256), (18, 258))


def random_rows(layout: TokenLayout, seed: int, scale: float = 1e-3) -> torch.Tensor:
    """Residuals whose layers differ in mean and spread, as those of real checkpoints do."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(layout.layers, layout.length, generator=generator)
    factor = torch.arange(1, layout.layers + 1)[:, None] * scale
    return rows * factor + factor / 7


def there_and_back(mode: StatisticsMode, layout: TokenLayout, many: torch.Tensor) -> None:
    statistics = Statistics.fit(mode, many)
    start = flatten(unflatten(many[0], layout), layout)
    assert torch.equal(start, many[0])
    normal, own = statistics.normalise(start)
    tokens = cut(normal, layout)
    assert torch.equal(join(tokens, layout), normal)
    back = statistics.restore(join(tokens, layout), own)
    error = (back - many[0]).abs().amax(1) / many[0].abs().amax(1).clamp(min=1e-30)
    assert float(error.max()) < 1e-5
    tensors, wanted = unflatten(back, layout), unflatten(many[0], layout)
    assert tensors.keys() == wanted.keys()
    assert all(tensors[name].shape == wanted[name].shape for name in wanted)


@pytest.mark.parametrize("mode", ["layer", "element"])
@pytest.mark.parametrize("layout", [SMOLLM2, QWEN_SMALL, QWEN_LARGE], ids=["SmolLM2-135M", "Qwen-0.5B", "Qwen-1.5B"])
def test_weights_come_back_from_tokens_for_the_real_models(mode: StatisticsMode, layout: TokenLayout) -> None:
    there_and_back(mode, layout, torch.stack([random_rows(layout, seed) for seed in (1, 2)]))


@st.composite
def layouts(draw: st.DrawFn) -> TokenLayout:
    size = st.integers(1, 9)
    names = draw(st.lists(st.sampled_from(LORA_TARGETS), min_size=1, unique=True))
    one = {f"block.{name}": (draw(size), draw(size)) for name in names}
    every = {f"{PREFIX}{i}.{name}": shape for i in range(draw(st.integers(1, 4))) for name, shape in one.items()}
    token = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    frame = (token[0] + draw(st.integers(0, 2)), token[1] + draw(st.integers(0, 2)))
    return TokenLayout.of(every, draw(st.integers(1, 5)), draw(st.integers(1, 32)), token, frame)


@bounded(max_examples=60)
@given(layouts(), st.sampled_from(["layer", "element"]), st.integers(0, 99), st.floats(1e-6, 1e3), st.integers(1, 3))
def test_weights_come_back_from_tokens_for_any_layout(
    layout: TokenLayout, mode: StatisticsMode, seed: int, scale: float, checkpoints: int
) -> None:
    there_and_back(mode, layout, torch.stack([random_rows(layout, seed + k, scale) for k in range(checkpoints)]))
    assert from_json(json.dumps(asdict(layout))) == layout
    assert payload(layout).sum() == layout.total
    assert len(position_codes(layout, 16).unique(dim=0)) == layout.tokens


def test_the_counts_of_table_9() -> None:
    assert (SMOLLM2.length, SMOLLM2.total, SMOLLM2.per_layer, SMOLLM2.tokens) == (40_704, 1_221_120, 20, 600)
    assert (QWEN_SMALL.size, QWEN_SMALL.per_layer, QWEN_SMALL.tokens) == (1024, 179, 4296)
    assert (QWEN_LARGE.size, QWEN_LARGE.per_layer, QWEN_LARGE.tokens) == (4096, 161, 4508)
    assert (QWEN_SMALL.token, QWEN_SMALL.frame) == ((8, 128), (8, 128))
    assert (QWEN_LARGE.token, QWEN_LARGE.frame) == ((16, 256), (18, 258))


def test_an_adapters_matrices_lie_in_the_documented_order() -> None:
    backwards = dict(reversed(shapes(2, 4, 2, 6).items()))
    layout = TokenLayout.of(backwards, 3, 8, (5, 5))
    assert [name.rsplit(".", 1)[-1] for name, _, _ in layout.modules] == list(LORA_TARGETS)
    assert layout.shapes() == shapes(2, 4, 2, 6)
    start = initial_lora(layout.shapes(), LORA_TARGETS, 3, 8, 0, "base")
    flat = flatten(start.tensors, layout)
    q, k = f"{PREFIX}1.self_attn.q_proj.lora_", f"{PREFIX}1.self_attn.k_proj.lora_"
    assert torch.equal(flat[1, :12], start.tensors[f"{q}A.weight"].flatten())
    assert not flat[1, 12:24].any()
    assert torch.equal(flat[1, 24:36], start.tensors[f"{k}A.weight"].flatten())
    assert all(torch.equal(value, start.tensors[name]) for name, value in unflatten(flat, layout).items())


def test_only_the_last_token_of_a_layer_is_padded_and_with_zeros() -> None:
    mask = payload(SMOLLM2).view(30, 20, -1)
    assert bool(mask[:, :-1].all())
    assert mask[:, -1].sum(1).tolist() == [40_704 - 19 * 2048] * 30
    assert bool(payload(QWEN_SMALL).all())
    assert bool(payload(QWEN_LARGE).all())


def test_what_stands_in_padding_is_not_read() -> None:
    rows = random_rows(SMOLLM2, 3)
    tokens = cut(rows, SMOLLM2)
    tokens[~payload(SMOLLM2)] = float("nan")
    assert torch.equal(join(tokens, SMOLLM2), rows)


def test_cutting_takes_any_batch_axes() -> None:
    layout = TokenLayout.of(shapes(2, 4, 2, 6), 2, 8, (3, 5))
    rows = torch.randn(3, 2, *(layout.layers, layout.length), generator=torch.Generator().manual_seed(0))
    tokens = cut(rows, layout)
    assert tokens.shape == (3, 2, layout.tokens, 3, 5)
    assert torch.equal(tokens[2, 1], cut(rows[2, 1], layout))
    assert torch.equal(join(tokens, layout), rows)


def test_position_codes_by_hand() -> None:
    layout = TokenLayout.of(shapes(3, 4, 2, 6), 1, 1, (4, 4))
    per = layout.per_layer
    codes = position_codes(layout, 8)  # two rates: 1 and 10,000^(-1/2)
    for i, j in ((0, 0), (0, 1), (2, 3)):
        waves = [f(place * rate) for place in (i, j) for f in (math.sin, math.cos) for rate in (1.0, 0.01)]
        assert codes[i * per + j].tolist() == pytest.approx(waves, abs=1e-6)


@pytest.mark.parametrize("layout", [SMOLLM2, QWEN_SMALL, QWEN_LARGE])
def test_every_token_has_its_own_position_code(layout: TokenLayout) -> None:
    codes = position_codes(layout, 64)
    assert codes.shape == (layout.tokens, 64)
    assert len((codes * 1e3).round().unique(dim=0)) == layout.tokens  # apart by more than float32 rounding


def test_layer_mode_normalises_each_layer_and_z_scores_what_it_took_out() -> None:
    layout = TokenLayout.of(shapes(3, 8, 4, 12), 2, 8, (4, 4))
    many = torch.stack([random_rows(layout, seed) * (1 + seed) for seed in range(4)])
    statistics = Statistics.fit("layer", many)
    pairs = [statistics.normalise(rows) for rows in many]
    for rows, (normal, _) in zip(many, pairs, strict=True):
        assert normal.mean(1).tolist() == pytest.approx([0] * 3, abs=1e-5)
        assert normal.std(1, correction=0).tolist() == pytest.approx([1] * 3, rel=1e-4)
        assert layer_statistics(rows)[1].exp().tolist() == pytest.approx(rows.std(1, correction=0).tolist(), rel=1e-4)
    own = torch.stack([own for _, own in pairs])
    assert own.mean(0).flatten().tolist() == pytest.approx([0] * 6, abs=1e-4)
    assert own.std(0, correction=0).flatten().tolist() == pytest.approx([1] * 6, rel=1e-4)


def test_element_mode_takes_out_the_mean_checkpoint_and_its_spread() -> None:
    many = torch.stack([random_rows(SMOLLM2, seed) for seed in range(3)])
    statistics = Statistics.fit("element", many)
    normal = torch.stack([statistics.normalise(rows)[0] for rows in many])
    assert statistics.normalise(many[0])[1].shape == (30, 0)
    assert float(normal.mean(0).abs().max()) < 1e-4
    assert normal.square().mean((0, 2)).tolist() == pytest.approx([1] * 30, rel=1e-4)


@pytest.mark.parametrize("mode", ["layer", "element"])
def test_a_single_checkpoint_and_a_layer_of_zeros_are_no_division_by_zero(mode: StatisticsMode) -> None:
    layout = TokenLayout.of(shapes(2, 8, 4, 12), 2, 8, (4, 4))
    rows = random_rows(layout, 5)
    rows[1] = 0
    statistics = Statistics.fit(mode, rows[None])
    near = rows + 1e-4 * random_rows(layout, 6)  # what a step of training away lies near in normalised units, too
    near[1] = 0
    normal, own = statistics.normalise(near)
    assert float(normal.abs().max()) < 10
    assert torch.allclose(statistics.restore(normal, own), near, atol=1e-6)


def test_uneven_or_unknown_modules_have_no_layout() -> None:
    good = shapes(2, 4, 2, 6)
    cases: list[tuple[dict[str, tuple[int, int]], str]] = [
        ({}, "not all alike"),
        ({**good, f"{PREFIX}1.mlp.up_proj": (7, 4)}, "not all alike"),
        ({name: shape for name, shape in good.items() if not name.endswith("1.mlp.up_proj")}, "not all alike"),
        ({name.replace("layers.1.", "layers.2."): shape for name, shape in good.items()}, "not all alike"),
        ({**good, "base_model.model.visual.layers.0.mlp.up_proj": (6, 4)}, "not all alike"),
        ({**good, "base_model.model.lm_head": (9, 4)}, "not a module with LoRA inside a numbered layer"),
        ({**good, f"{PREFIX}0.mlp.router": (9, 4)}, "not a module with LoRA inside a numbered layer"),
    ]
    for case, message in cases:
        with pytest.raises(InputError, match=message):
            TokenLayout.of(case, 2, 8, (4, 4))
    for token, frame in (((4, 4), (3, 4)), ((0, 4), None)):
        with pytest.raises(InputError, match="does not fit a frame"):
            TokenLayout.of(good, 2, 8, token, frame)


def test_an_adapter_that_does_not_fit_is_refused_with_the_place() -> None:
    layout = TokenLayout.of(shapes(2, 4, 2, 6), 2, 8, (4, 4))
    tensors = unflatten(random_rows(layout, 1), layout)
    name = f"{PREFIX}1.mlp.up_proj.lora_B.weight"
    with pytest.raises(InputError, match=r"layer 1 mlp\.up_proj\.lora_B has shape \(2, 6\); the layout wants \(6, 2\)"):
        flatten({**tensors, name: tensors[name].T}, layout)
    with pytest.raises(InputError, match=r"layer 1 mlp\.up_proj\.lora_B is missing"):
        flatten({**{n: t for n, t in tensors.items() if n != name}, "another": tensors[name]}, layout)
    with pytest.raises(InputError, match="27 matrices does not fit a layout of 28"):
        flatten({n: t for n, t in tensors.items() if n != name}, layout)


def test_equal_layouts_have_equal_hashes_and_others_do_not() -> None:
    again = from_json(json.dumps(asdict(SMOLLM2)))
    assert (again, again.sha256) == (SMOLLM2, SMOLLM2.sha256)
    others = [
        replace(SMOLLM2, rank=8),
        replace(SMOLLM2, alpha=8),
        replace(SMOLLM2, token=(8, 64)),
        replace(SMOLLM2, frame=(18, 128)),
        replace(SMOLLM2, modules=SMOLLM2.modules[::-1]),
    ]
    assert len({SMOLLM2.sha256, *(other.sha256 for other in others)}) == 6


GOOD = asdict(SMOLLM2)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        "text",
        {**GOOD, "more": 1},
        {key: value for key, value in GOOD.items() if key != "rank"},
        {**GOOD, "rank": "4"},
        {**GOOD, "rank": 4.0},
        {**GOOD, "rank": True},
        {**GOOD, "rank": -4},
        {**GOOD, "layers": 0},
        {**GOOD, "layers": 2**23},
        {**GOOD, "prefix": 3},
        {**GOOD, "modules": []},
        {**GOOD, "modules": [["q_proj", 3]]},
        {**GOOD, "modules": [[1, 2, 3]]},
        {**GOOD, "modules": [["q_proj", 1, float("inf")]]},
        {**GOOD, "modules": "abc"},
        {**GOOD, "token": [16]},
        {**GOOD, "token": [16, 128, 1]},
        {**GOOD, "frame": [15, 128]},
        {**GOOD, "frame": [16, float("nan")]},
    ],
)
def test_foreign_json_is_no_layout(value: Any) -> None:
    with pytest.raises((InputError, ValidationError)):
        from_json(json.dumps(value))
