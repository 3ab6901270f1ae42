"""The transformer over packed rows: no matrix product sees padding, and attention looks only where the tree lets it.

All rows of a batch lie end to end in one sequence, so that norms, projections and the MLP work on real tokens alone.
Tokens with equal texts before them, such as the beginning that a task's questions share, lie there once. Attention
alone needs rows side by side: queries, keys and values are laid out (rows, longest row) for it and back. It goes
through blocks of queries, and no block multiplies with keys behind its last query.

The layers are those of Llama and Qwen2, written out: RMS norms in one pass, rotary positions, grouped queries, SwiGLU.
What the layers add up stays in float32, which rounds a third less than the library's own bf16. The library's modules
hold the weights, so an adapter on them is seen here too. Any other architecture takes the library's
forward with the tree as a mask; and where that is not what the model gives for each text alone
(``cao.model.agreement``), as with a window of attention shorter than the row, each text is read alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cao.model.language_model import LanguageModel
from cao.model.packing import as_mask, states_alone

if TYPE_CHECKING:
    from peft.tuners.lora import Linear as LoraLinear
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm

WRITTEN_OUT = ("LlamaModel", "Qwen2Model")
"""Architectures whose layers are written out here."""

QUERY_BLOCK = 128
"""Queries of a row that attend together."""


@dataclass(frozen=True)
class Span:
    """Where one branch lies in its row: read from ``start``, scored from ``scored``, up to ``end``."""

    start: int
    scored: int
    end: int


@dataclass(frozen=True)
class Row:
    """One question as the trunk reads it.

    Attributes:
        tokens: the prompt's tokens, then every branch's, end to end.
        prompt: number of prompt tokens.
        spans: one for each branch.
        cut: tokens dropped from the prompt's beginning to fit the model's context.
    """

    tokens: list[int]
    prompt: int
    spans: tuple[Span, ...] = ()
    cut: int = 0

    def scored(self) -> list[tuple[int, int, int]]:
        """Return, for each scored token: which branch it is of, its place in the row, and that of the token before."""
        return [
            (number, at, at - 1 if at > span.start else self.prompt - 1)
            for number, span in enumerate(self.spans)
            for at in range(span.scored, span.end)
        ]


@dataclass(frozen=True)
class Shared:
    """The tokens of rows, each once that has the same text before it as another.

    Attributes:
        tokens: T ids.
        positions: T places in the text: every branch counts on from the prompt.
        places: of B rows, where each of a row's tokens lies among the T.
    """

    tokens: list[int]
    positions: list[int]
    places: list[list[int]]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Shared":
        """Put the tokens of all rows into one tree of texts."""
        tokens: list[int] = []
        positions: list[int] = []
        places: list[list[int]] = []
        known: dict[tuple[int, int], int] = {}  # (place of the token before, token) → place

        def read(before: int, some: Sequence[int], position: int) -> list[int]:
            path = []
            for number, token in enumerate(some, position):
                before = known.setdefault((before, token), len(tokens))
                if before == len(tokens):
                    tokens.append(token)
                    positions.append(number)
                path.append(before)
            return path

        for row in rows:
            mine = read(-1, row.tokens[: row.prompt], 0)
            last = mine[-1] if mine else -1
            for span in row.spans:
                mine += read(last, row.tokens[span.start : span.end], row.prompt)
            places.append(mine)
        return cls(tokens, positions, places)


@dataclass(frozen=True)
class Packed:
    """Rows end to end, and where each token stands among rows side by side. T tokens, B rows, L the longest.

    Attributes:
        rows: the B rows.
        tokens: (T,) ids, a shared beginning once.
        positions: (T,) places in the text: every branch counts on from the prompt.
        padded: (B, L) the packed place of each token; 0 behind a row's end.
        flat: (T,) a place of each packed token in (B·L).
        visible: (B, L, L) bool, query × key: a token sees the prompt and its own branch up to itself; padding sees
            itself, so that no softmax is empty.
    """

    rows: Sequence[Row]
    tokens: Tensor
    positions: Tensor
    padded: Tensor
    flat: Tensor
    visible: Tensor

    @classmethod
    def of(cls, rows: Sequence[Row], device: str) -> "Packed":
        """Pack rows and put them on a device."""
        lengths = torch.tensor([len(row.tokens) for row in rows])
        longest = int(lengths.max())
        shared = Shared.of(rows)
        segments = torch.full((len(rows), longest), -1)  # -1 padding, 0 prompt, 1… branches
        padded, flat = torch.zeros_like(segments), torch.empty(len(shared.tokens), dtype=torch.long)
        for i, row in enumerate(rows):
            segments[i, : row.prompt] = 0
            for number, span in enumerate(row.spans, 1):
                segments[i, span.start : span.end] = number
            places = torch.tensor(shared.places[i], dtype=torch.long)
            padded[i, : len(places)] = places
            flat[places] = i * longest + torch.arange(len(places))
        segments = segments.to(device)
        visible = (segments[:, :, None] == segments[:, None, :]) | (segments[:, None, :] == 0)
        return cls(
            rows=rows,
            tokens=torch.tensor(shared.tokens, device=device),
            positions=torch.tensor(shared.positions, device=device),
            padded=padded.to(device),
            flat=flat.to(device),
            visible=visible.tril(),
        )


@torch.no_grad()
def packed_states(lm: LanguageModel, packed: Packed) -> Tensor:
    """Return the last hidden states behind the final norm, (T, d), in the model's dtype.

    Args:
        lm: the model, with an adapter or without.
        packed: T tokens of B rows.
    """
    if not lm.paths.fit(packed.padded.shape[1]):
        return _states_alone(lm, packed)
    if not lm.paths.layers:
        return library_states(lm, packed)
    trunk = lm.trunk
    embedded = trunk.embed_tokens(packed.tokens)
    cos, sin = trunk.rotary_emb(embedded, packed.positions[None])
    rotation = _rotation(cos[0], sin[0])
    bias = torch.zeros_like(packed.visible, dtype=embedded.dtype).masked_fill_(~packed.visible, float("-inf"))
    total = embedded.float()
    for layer in trunk.layers:
        normed = _rms_norm(layer.input_layernorm, total)
        total += _attention(layer.self_attn, normed, packed, rotation, bias)
        normed = _rms_norm(layer.post_attention_layernorm, total)
        gated = F.silu(_linear(layer.mlp.gate_proj, normed)).mul_(_linear(layer.mlp.up_proj, normed))
        total += _linear(layer.mlp.down_proj, gated)
    return _rms_norm(trunk.norm, total)


def tree_states(lm: LanguageModel, packed: Packed) -> Tensor:
    """Return what ``packed_states`` does, by the library's forward, through which gradients flow.

    Args:
        lm: the model, with an adapter or without.
        packed: T tokens of B rows.
    """
    fits = lm.paths.fit(packed.padded.shape[1])
    return library_states(lm, packed) if fits else _states_alone(lm, packed)


def library_states(lm: LanguageModel, packed: Packed) -> Tensor:
    """The library's forward on rows side by side, the tree as a mask."""
    output = lm.trunk(
        input_ids=packed.tokens[packed.padded],
        attention_mask=as_mask(lm, packed.visible[:, None]),
        position_ids=packed.positions[packed.padded],
        use_cache=False,
    )
    states: Tensor = output.last_hidden_state
    return states.flatten(0, 1)[packed.flat]


def _states_alone(lm: LanguageModel, packed: Packed) -> Tensor:
    """The library's forward on each branch with its prompt, as a text of its own.

    Where positions depend on a text's length, the prompt's states are those before its longest branch.
    """
    texts, places = [], []
    for row, padded in zip(packed.rows, packed.padded.tolist(), strict=True):
        spans = sorted(row.spans, key=lambda span: span.end - span.start)  # what is written last stays
        for start, end in [(span.start, span.end) for span in spans] or [(row.prompt, row.prompt)]:
            texts.append(row.tokens[: row.prompt] + row.tokens[start:end])
            places += padded[: row.prompt] + padded[start:end]
    read = torch.cat(states_alone(lm, texts))
    states = read.new_empty(len(packed.tokens), read.shape[1])
    states[torch.tensor(places, device=read.device)] = read
    return states


def _rms_norm(norm: "LlamaRMSNorm", x: Tensor) -> Tensor:
    """Return float32 ``x`` over its root mean square, rounded to the model's dtype, times the weight."""
    norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    scale = torch.rsqrt(norms * norms / x.shape[-1] + norm.variance_epsilon)
    return torch.mul(x, scale, out=torch.empty_like(x, dtype=norm.weight.dtype)).mul_(norm.weight)


def _linear(module: nn.Linear, x: Tensor) -> Tensor:
    """Return the projection of (T, i), with the adapter's part added in place where the module has one."""
    if not hasattr(module, "lora_A") or module.lora_variant:  # DoRA: PEFT's own forward
        result: Tensor = module(x)
        return result
    worn: LoraLinear = module
    (name,) = worn.active_adapters
    down, up = worn.lora_A[name].weight, worn.lora_B[name].weight
    result = worn.base_layer(x)
    return result.addmm_(F.linear(x.to(down.dtype), down).to(x.dtype), up.T.to(x.dtype), alpha=worn.scaling[name])


def _rotation(cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Return (T, 1, D) factors of a head's values and of its values with the halves exchanged."""
    half = cos.shape[-1] // 2
    return cos[:, None], torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)[:, None]


def _rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Return (T, H, D) heads turned by their tokens' positions."""
    half = x.shape[-1] // 2
    exchanged = torch.cat([x[..., half:], x[..., :half]], dim=-1)
    return torch.addcmul(x * rotation[0], exchanged, rotation[1])


def _attention(
    attention: "LlamaAttention", x: Tensor, packed: Packed, rotation: tuple[Tensor, Tensor], bias: Tensor
) -> Tensor:
    """Return the attention layer's output, (T, d), for normed states (T, d)."""
    size = attention.head_dim
    query, key, value = (
        _linear(projection, x).view(len(x), -1, size)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    query, key = _rotate(query, rotation) * attention.scaling, _rotate(key, rotation)
    mixed = attend(query[packed.padded], key[packed.padded], value[packed.padded], bias)
    return _linear(attention.o_proj, mixed.flatten(0, 1)[packed.flat].flatten(1))


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Return what each query reads, (B, L, H, D).

    Args:
        query: (B, L, H, D), scaled.
        key: (B, L, K, D); H is a multiple of K, and H/K neighbouring query heads share a key head.
        value: (B, L, K, D).
        bias: (B, L, L), 0 where a query sees a key and −∞ where not; nothing behind the diagonal is seen.
    """
    b, length, h, d = query.shape
    k = key.shape[2]
    query = query.view(b, length, k, h // k, d).permute(0, 2, 3, 1, 4)  # (B, K, H/K, L, D)
    key, value = key.permute(0, 2, 3, 1), value.permute(0, 2, 1, 3)  # (B, K, D, L), (B, K, L, D)
    blocks = []
    for start in range(0, length, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, length)
        mine = query[:, :, :, start:end].reshape(b, k, -1, d)
        scores = (mine @ key[..., :end]).view(b, h, end - start, end)
        shares = scores.add_(bias[:, None, start:end, :end]).softmax(-1)
        read = shares.view(b, k, -1, end) @ value[:, :, :end]
        blocks.append(read.view(b, h, end - start, d).transpose(1, 2))
    return torch.cat(blocks, dim=1)
