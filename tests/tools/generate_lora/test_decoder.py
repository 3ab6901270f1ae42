"""The decoder: Table 9's ladders by their shapes, and the five-convolution block against a slow plain version."""

import pytest
import torch
from torch import Tensor, nn

from agent.train.generator.presets import PRESETS
from cao.model.profiles import MODELS
from tests.tools.generate_lora.tiny_generators import shapes
from tools.generate_lora.decoder import HyperConvBlock, HyperConvDecoder, Ladder, Shape, paper_ladder
from tools.generate_lora.generator_file import written

SIZES = {
    "smollm2-135m": (30, 576, 192, 1536),
    "qwen2.5-0.5b": (24, 896, 128, 4864),
    "qwen2.5-1.5b": (28, 1536, 256, 8960),
}


def walked(ladder: Ladder) -> tuple[list[Shape], int]:
    """The shapes that the real forward goes through, and the number of parameters; nothing is computed."""
    with torch.device("meta"):
        decoder = HyperConvDecoder(ladder)
        found: list[Shape] = []
        for block in decoder.blocks:
            block.register_forward_hook(lambda _, __, out: found.append(tuple(out.shape[1:])))
        images, features = decoder(torch.empty(2, *ladder.shapes[0]))
    assert tuple(images.shape) == (2, *ladder.shapes[-1])
    assert tuple(features.shape) == (2, ladder.shapes[-2][0])
    return found, sum(parameter.numel() for parameter in decoder.parameters())


@pytest.mark.parametrize("n", [8, 100])
@pytest.mark.parametrize(("size", "kernel", "last"), [("0.5b", 9, (4296, 8, 128)), ("1.5b", 11, (4508, 18, 258))])
def test_table_9(size: str, kernel: int, last: Shape, n: int) -> None:
    ladder = paper_ladder(size, n)
    assert (ladder.kernel, ladder.prompts, ladder.shapes[0]) == (kernel, n, (n, 384, 384))
    steps = [(n, 200, 300), (n, 100, 256), (2 * n, 50, 200), (4 * n, 50, 200), (8 * n, 25, 200), (8 * n, 10, 200)]
    assert walked(ladder)[0] == [*steps, (16 * n, 10, 200), last]


@pytest.mark.parametrize(("n", "kernel", "count"), [(128, 9, 1.1e9), (32, 3, 32e6), (8, 3, 15e6)])
def test_the_number_of_parameters(n: int, kernel: int, count: float) -> None:
    found = walked(Ladder(paper_ladder("0.5b", n).shapes, kernel))[1]
    assert found == pytest.approx(count, rel=0.05)


@pytest.mark.parametrize("model", SIZES)
def test_every_presets_decoder_ends_in_what_its_head_writes(model: str) -> None:
    profile, preset = MODELS[model], PRESETS[MODELS[model].preset]
    layout = preset.layout(shapes(*SIZES[model]), profile.lora_rank, profile.lora_alpha)
    assert walked(preset.ladder)[0][-1] == written(preset.head, layout)
    assert layout.token == preset.token


def plain_convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A "same" convolution of (channels, height, width), one tap after the other."""
    k = weight.shape[-1]
    _, height, width = x.shape
    out = bias[:, None, None].expand(-1, height, width).clone()
    for dy in range(k):
        for dx in range(k):
            for y in range(height):
                for z in range(width):
                    down, right = y + dy - k // 2, z + dx - k // 2
                    if 0 <= down < height and 0 <= right < width:
                        out[:, y, z] += weight[:, :, dy, dx] @ x[:, down, right]
    return out


def plain_block(block: HyperConvBlock, x: Tensor) -> Tensor:
    """One example (N, L, C) through the block, written out from the paper notes."""
    _, length, channels = x.shape
    mean = x.mean((1, 2), keepdim=True)
    y = (x - mean) / (((x - mean) ** 2).sum((1, 2), keepdim=True) / (length * channels) + 1e-5).sqrt()
    if block.norm.elementwise_affine:
        y = y * block.norm.weight + block.norm.bias

    def over(convolution: nn.Conv2d, value: Tensor, axis: int) -> Tensor:
        moved = plain_convolution(value.movedim(axis, 0), convolution.weight, convolution.bias)
        return moved.movedim(0, axis)

    first = over(block.then_height, over(block.width_first, y, 2), 1)
    second = over(block.then_width, over(block.height_first, y, 1), 2).tanh()
    out = over(block.mix, (first + second + block.bias) / 3, 0)
    return x + out if x.shape == out.shape else out


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("before", "after", "kernel"),
    [((2, 5, 4), (3, 2, 6), 3), ((3, 4, 5), (3, 4, 5), 3), ((2, 3, 4), (2, 4, 3), 5), ((4, 3, 2), (1, 3, 2), 1)],
)
def test_a_block_is_the_slow_plain_one(before: Shape, after: Shape, kernel: int, affine: bool) -> None:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        block = HyperConvBlock(before, after, kernel, affine=affine).double()
        for parameter in block.parameters():  # the norm's and the mean's begin as constants
            parameter.normal_(std=0.5)
        x = torch.randn(2, *before, dtype=torch.float64)
        found = block(x)
        for one, result in zip(x, found, strict=True):
            assert result.shape == after
            assert torch.allclose(result, plain_block(block, one), atol=1e-10)


def test_a_residual_stands_only_where_all_three_sizes_agree() -> None:
    x = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    for after, kept in (((3, 4, 5), True), ((4, 4, 5), False), ((3, 5, 4), False)):
        block = HyperConvBlock((3, 4, 5), after, 3)
        nn.init.zeros_(block.mix.weight)
        nn.init.zeros_(block.mix.bias)
        assert torch.equal(block(x), x if kept else torch.zeros(1, *after))


def test_channels_computed_in_parts_are_those_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = HyperConvBlock((3, 4, 5), (7, 4, 6), 3).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for at_once in (7, 3):  # the last part is a single channel
        monkeypatch.setattr("tools.generate_lora.decoder.CHANNELS_AT_ONCE", at_once)
        out = block(x)
        found.append((out, *torch.autograd.grad(out.square().sum(), list(block.parameters()))))
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole)


def test_tasks_of_a_batch_do_not_see_each_other() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = HyperConvDecoder(Ladder(((2, 6, 5), (2, 3, 4), (3, 2, 2)), 3))
    x = torch.randn(3, 2, 6, 5, generator=torch.Generator().manual_seed(0))
    other = torch.cat([x[:1], x[1:].flip(3)])
    for one, two in zip(decoder(x), decoder(other), strict=True):
        assert torch.allclose(one[0], two[0], atol=1e-6)
        assert not torch.allclose(one[1], two[1])
