"""LoRA tokens: a residual adapter as a sequence of small images, and back.

A layer's matrices are laid end to end (A then B of each module, in ``LORA_TARGETS`` order), the layer is normalised,
and the line is cut into tokens of h x w scalars; the last one is filled up with zeros that no loss sees.

What is cut is the *residual* (A - A0, B) from the recorded initialisation: A0 is a constant that needs no generator.

Axis letters: J tokens of all layers, k = h·w scalars a token, D scalars of the whole adapter.

Source: CAO-LLM E.3; residuals, statistics and the exact inverse are this project's reading.
"""

import math
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from cao.errors import InputError
from cao.files import canonical_json, sha256_bytes
from cao.model.profiles import LORA_TARGETS

Size = Annotated[int, Field(gt=0, lt=2**24)]

_NAME = re.compile(r"^(.*\.layers\.)(\d+)\.(.+)$")


@dataclass(frozen=True)
class TokenLayout:
    """Where every scalar of an adapter lies among the tokens; equal layouts have equal hashes.

    Attributes:
        rank: r.
        alpha: α.
        prefix: PEFT's name up to the layer's number.
        layers: number of layers.
        modules: (name below the layer, out, in), in order.
        token: (h, w), the scalars a token carries.
        frame: (H, W), what the decoder emits for a token; the rest of it is cut off (Table 9's 18 x 258 for 16 x 256).
    """

    rank: Size
    alpha: Size
    prefix: str
    layers: Size
    modules: Annotated[tuple[tuple[str, Size, Size], ...], Field(min_length=1)]
    token: tuple[Size, Size]
    frame: tuple[Size, Size]

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit each other.

        Raises:
            InputError: a token does not fit its frame, or the adapter is too large.
        """
        token, frame = self.token, self.frame
        if frame[0] < token[0] or frame[1] < token[1] or min(*token, self.rank, self.alpha) < 1:
            raise InputError(f"a token of {token} does not fit a frame of {frame}, or rank {self.rank} is below 1")
        if self.total >= 2**31:
            raise InputError(f"a layout of {self.total} scalars is too large")

    @classmethod
    def of(
        cls,
        shapes: dict[str, tuple[int, int]],
        rank: int,
        alpha: int,
        token: tuple[int, int],
        frame: tuple[int, int] | None = None,
    ) -> "TokenLayout":
        """Return the layout for a model.

        Args:
            shapes: PEFT module prefix to (out, in), as ``LanguageModel.lora_shapes`` gives it.
            rank: r.
            alpha: α.
            token: (h, w).
            frame: (H, W), at least ``token`` on both sides; equal to it when absent.

        Raises:
            InputError: the layers differ from each other, or a name has no layer number or no LoRA.
        """
        frame = frame or token
        by_layer: dict[int, dict[str, tuple[int, int]]] = {}
        prefixes = set()
        for name, shape in shapes.items():
            match = _NAME.match(name)
            if not match or name.rsplit(".", 1)[-1] not in LORA_TARGETS:
                raise InputError(f"{name}: not a module with LoRA inside a numbered layer")
            prefixes.add(match.group(1))
            by_layer.setdefault(int(match.group(2)), {})[match.group(3)] = shape
        first = by_layer.get(0, {})
        alike = all(layer == first for layer in by_layer.values())
        if len(prefixes) != 1 or sorted(by_layer) != list(range(len(by_layer))) or not alike:
            raise InputError("the model's layers are not all alike: no token layout exists for it")
        order = sorted(first, key=lambda name: LORA_TARGETS.index(name.rsplit(".", 1)[-1]))
        modules = tuple((name, *first[name]) for name in order)
        return cls(rank, alpha, prefixes.pop(), len(by_layer), modules, token, frame)

    @cached_property
    def sha256(self) -> str:
        """Hash of the layout: a generator for another one is refused by it."""
        return sha256_bytes(canonical_json(asdict(self)).encode())

    @cached_property
    def length(self) -> int:
        """Scalars of one layer."""
        return sum(self.rank * (out + inner) for _, out, inner in self.modules)

    @property
    def total(self) -> int:
        """D, scalars of the whole adapter."""
        return self.layers * self.length

    @property
    def size(self) -> int:
        """K, scalars of one token."""
        return self.token[0] * self.token[1]

    @property
    def per_layer(self) -> int:
        """Tokens of one layer; the last one may be part padding."""
        return math.ceil(self.length / self.size)

    @property
    def tokens(self) -> int:
        """J, tokens of the whole adapter."""
        return self.layers * self.per_layer

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Return PEFT module prefix to (out, in), as ``LanguageModel.lora_shapes`` does."""
        return {f"{self.prefix}{i}.{name}": (o, n) for i in range(self.layers) for name, o, n in self.modules}


def flatten(tensors: dict[str, Tensor], layout: TokenLayout) -> Tensor:
    """Lay an adapter's matrices end to end.

    Args:
        tensors: PEFT names to A (r, in) and B (out, r).
        layout: their order.

    Returns:
        (layers, D_l), float32, on the tensors' device.

    Raises:
        InputError: a matrix is missing or has another shape.

    Source: CAO-LLM E.3.
    """
    if len(tensors) != 2 * layout.layers * len(layout.modules):
        raise InputError(f"an adapter of {len(tensors)} matrices does not fit a layout of {2 * len(layout.shapes())}")
    rows = []
    for i in range(layout.layers):
        parts = []
        for name, out, inner in layout.modules:
            for side, shape in (("A", (layout.rank, inner)), ("B", (out, layout.rank))):
                matrix = tensors.get(f"{layout.prefix}{i}.{name}.lora_{side}.weight")
                if matrix is None or tuple(matrix.shape) != shape:
                    has = "is missing" if matrix is None else f"has shape {tuple(matrix.shape)}"
                    raise InputError(f"layer {i} {name}.lora_{side} {has}; the layout wants {shape}")
                parts.append(matrix.reshape(-1).float())
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def unflatten(flat: Tensor, layout: TokenLayout) -> dict[str, Tensor]:
    """Return the matrices of ``flatten``'s result by their PEFT names.

    Args:
        flat: (layers, D_l).
        layout: their order.
    """
    assert flat.shape == (layout.layers, layout.length), (flat.shape, layout.layers, layout.length)
    tensors = {}
    for i in range(layout.layers):
        start = 0
        for name, out, inner in layout.modules:
            for side, shape in (("A", (layout.rank, inner)), ("B", (out, layout.rank))):
                end = start + shape[0] * shape[1]
                tensors[f"{layout.prefix}{i}.{name}.lora_{side}.weight"] = flat[i, start:end].reshape(shape)
                start = end
    return tensors


def cut(flat: Tensor, layout: TokenLayout) -> Tensor:
    """Cut lines of scalars into tokens, the last token of a layer filled up with zeros.

    Args:
        flat: (..., layers, D_l).
        layout: sizes.

    Returns:
        (..., J, h, w).
    """
    assert flat.shape[-2:] == (layout.layers, layout.length), (flat.shape, layout.layers, layout.length)
    padded = torch.nn.functional.pad(flat, (0, layout.per_layer * layout.size - layout.length))
    return padded.reshape(*flat.shape[:-2], layout.tokens, *layout.token)


def join(tokens: Tensor, layout: TokenLayout) -> Tensor:
    """Return the lines that ``cut`` cut; padding is dropped.

    Args:
        tokens: (..., J, h, w).
        layout: sizes.

    Returns:
        (..., layers, D_l).
    """
    assert tokens.shape[-3:] == (layout.tokens, *layout.token), (tokens.shape, layout.tokens, layout.token)
    return tokens.reshape(*tokens.shape[:-3], layout.layers, -1)[..., : layout.length]


def position_codes(layout: TokenLayout, width: int) -> Tensor:
    """Return the 2-D sinusoidal position code of every token: half of it for the layer i, half for the token j in it.

    Args:
        layout: sizes.
        width: channels of the code, a multiple of 4: sines and cosines of i, then of j, at falling rates.

    Returns:
        (J, width), float32; no two rows are equal.

    Source: CAO-LLM E.3.
    """
    assert width % 4 == 0, width
    layer = torch.arange(layout.layers).repeat_interleave(layout.per_layer)
    token = torch.arange(layout.per_layer).repeat(layout.layers)
    rates = 10_000 ** (-torch.arange(width // 4) / (width // 4))
    angles = [places[:, None] * rates for places in (layer, token)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
