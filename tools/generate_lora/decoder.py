"""The hyper-convolutional decoder: from the prompts' token states to LoRA tokens by cascaded convolutions.

Axis letters: B tasks, N prompts (later tokens of the adapter), L encoder tokens, C channels.

Source: CAO-LLM §2.2, Table 9; the block is that of Drag-and-Drop LLMs.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from cao.errors import InputError

Size = Annotated[int, Field(gt=0, lt=2**20)]
Shape = tuple[Size, Size, Size]
"""(N, L, C) between two blocks."""

CHANNELS_AT_ONCE = 512
"""Channels of the mixing convolution that are computed together. Of the paper's 4,296 at once the gradient on a
processor takes far longer (lab log); each channel is the same product either way."""


@dataclass(frozen=True)
class Ladder:
    """A decoder's sizes.

    Attributes:
        shapes: (N, L, C) of the input and after each block.
        kernel: side of every convolution, odd.
        affine: whether the layer norms have a learned gain and offset of L·C values each.
    """

    shapes: Annotated[tuple[Shape, ...], Field(min_length=2)]
    kernel: Size
    affine: bool = True

    def __post_init__(self) -> None:
        """Refuse a kernel without a middle.

        Raises:
            InputError: it is even.
        """
        if self.kernel % 2 == 0:
            raise InputError(f"a decoder's kernel is odd, {self.kernel} is not")

    @property
    def prompts(self) -> int:
        """N, prompts of one conditioning tensor."""
        return self.shapes[0][0]


def paper_ladder(name: str, prompts: int) -> Ladder:
    """Return a ladder of Table 9.

    Args:
        name: ``0.5b`` (kernel 9) or ``1.5b`` (kernel 11).
        prompts: n, below 128 in the paper.

    Source: CAO-LLM Table 9.
    """
    n = prompts
    shared = (
        *((n, 384, 384), (n, 200, 300), (n, 100, 256), (2 * n, 50, 200)),
        *((4 * n, 50, 200), (8 * n, 25, 200), (8 * n, 10, 200), (16 * n, 10, 200)),
    )
    last, kernel = {"0.5b": ((4296, 8, 128), 9), "1.5b": ((4508, 18, 258), 11)}[name]
    return Ladder((*shared, last), kernel)


class HyperConvBlock(nn.Module):
    """Five convolutions that change all three axes of (N, L, C).

    Width and height are the axes C and L: a convolution takes one of them as its channels and slides over the other
    two. Branch 1 goes width then height, branch 2 height then width and through a tanh; their sum with a learned
    bias over (L', C'), divided by three, goes through a fifth convolution over (L', C') with N as its channels.

    Source: CAO-LLM §2.2, E; Drag-and-Drop LLMs.
    """

    def __init__(self, before: Shape, after: Shape, kernel: int, *, affine: bool = True) -> None:
        """Make a block with random weights.

        Args:
            before: (N, L, C) of the input.
            after: (N', L', C') of the output.
            kernel: side of the convolutions, odd, so that "same" padding is symmetric.
            affine: whether the layer norm has learned parameters.
        """
        super().__init__()
        assert kernel % 2 == 1, kernel
        (n, length, channels), (n_out, length_out, channels_out) = before, after
        self.norm = nn.LayerNorm([length, channels], elementwise_affine=affine)
        self.width_first = nn.Conv2d(channels, channels_out, kernel, padding="same")
        self.then_height = nn.Conv2d(length, length_out, kernel, padding="same")
        self.height_first = nn.Conv2d(length, length_out, kernel, padding="same")
        self.then_width = nn.Conv2d(channels, channels_out, kernel, padding="same")
        self.bias = nn.Parameter(torch.zeros(length_out, channels_out))
        self.mix = nn.Conv2d(n, n_out, kernel, padding="same")
        self.residual = before == after

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, N', L', C') for (B, N, L, C)."""
        y = self.norm(x)
        first = _over_width(self.width_first, y)
        first = _over_height(self.then_height, first)
        second = _over_height(self.height_first, y)
        second = torch.tanh(_over_width(self.then_width, second))
        out = _mixed(self.mix, (first + second + self.bias) / 3)
        return x + out if self.residual else out


def _over_width(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve (B, N, L, C) with C as the channels: slides over (N, L)."""
    return convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # type: ignore[no-any-return]


def _over_height(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve (B, N, L, C) with L as the channels: slides over (N, C)."""
    return convolution(x.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)  # type: ignore[no-any-return]


def _mixed(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve (B, N, L, C) with N as the channels, CHANNELS_AT_ONCE of what comes out at a time."""
    if convolution.out_channels <= CHANNELS_AT_ONCE:
        return convolution(x)  # type: ignore[no-any-return]
    assert convolution.bias is not None
    weights, biases = (torch.split(each, CHANNELS_AT_ONCE) for each in (convolution.weight, convolution.bias))
    made = [functional.conv2d(x, weight, bias, padding="same") for weight, bias in zip(weights, biases, strict=True)]
    return torch.cat(made, dim=1)


class HyperConvDecoder(nn.Module):
    """Blocks one after the other, down a ladder.

    Source: CAO-LLM §2.2, Table 9.
    """

    def __init__(self, ladder: Ladder) -> None:
        super().__init__()
        self.ladder = ladder
        self.blocks = nn.ModuleList(
            HyperConvBlock(before, after, ladder.kernel, affine=ladder.affine)
            for before, after in zip(ladder.shapes, ladder.shapes[1:], strict=False)
        )

    def forward(self, conditioning: Tensor) -> tuple[Tensor, Tensor]:
        """Decode.

        Args:
            conditioning: (B, N, L, C) float32, the ladder's first shape.

        Returns:
            The last block's output (B, J, H, W), and the mean over the two image axes of what it was fed, (B, N_last),
            from which the layer statistics are read.
        """
        assert conditioning.shape[1:] == self.ladder.shapes[0], (conditioning.shape, self.ladder.shapes[0])
        x = conditioning
        for block in self.blocks[:-1]:
            x = block(x)
        return self.blocks[-1](x), x.mean((2, 3))
