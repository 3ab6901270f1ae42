"""Texts written side by side, a token a step: rows join while others are being written, and finished ones leave."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cao.inference.scoring import start_token
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row

if TYPE_CHECKING:
    from transformers import Cache
    from transformers.modeling_outputs import BaseModelOutputWithPast

_TRIM = 16
"""Columns at the left that no row reads are cut off from so many on: a cut copies what is kept."""


def left_padded(lm: LanguageModel, rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens, mask and positions of prompts that end together, each (n, L), int64."""
    shape = (len(rows), max(row.prompt for row in rows))
    tokens, mask = torch.full(shape, start_token(lm)), torch.zeros(shape, dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, shape[1] - row.prompt :] = torch.tensor(row.tokens)
        mask[i, shape[1] - row.prompt :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return tokens.to(lm.device), mask.to(lm.device), positions.to(lm.device)


@dataclass
class RowBatch:
    """Rows under one adapter, and what the model keeps of them.

    Attributes:
        lm: the model.
        rows: the prompts that the batch begins with.
    """

    lm: LanguageModel
    rows: Sequence[Row]
    _tokens: Tensor = field(init=False, repr=False)
    _mask: Tensor = field(init=False, repr=False)
    _positions: Tensor = field(init=False, repr=False)
    _cache: "Cache | None" = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._tokens, self._mask, self._positions = left_padded(self.lm, self.rows)

    @property
    def width(self) -> int:
        """Positions that are kept of each row, padding included."""
        return self._mask.shape[1]

    def step(self) -> Tensor:
        """Read what is new of each row; return the hidden states behind it, (n, d)."""
        output: BaseModelOutputWithPast = self.lm.trunk(
            input_ids=self._tokens,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = output.past_key_values
        hidden: Tensor = output.last_hidden_state[:, -1]
        return hidden

    def go_on(self, slots: Sequence[int], tokens: Sequence[int]) -> None:
        """Keep some rows, and add to each the token that is read at the next step.

        Args:
            slots: of the rows that go on, ascending, at least one; all others leave.
            tokens: one for each of them.
        """
        device = self.lm.device
        if len(slots) < len(self._mask):
            kept = torch.tensor(slots, device=device)
            assert self._cache is not None, "rows go on behind a step"
            _keep_rows(self._cache, kept)
            self._mask, self._positions = self._mask[kept], self._positions[kept]
        self._tokens = torch.tensor([[token] for token in tokens], device=device)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(slots), 1)], 1)
        self._positions = self._positions[:, -1:] + 1

    def join(self, other: "RowBatch") -> bool:
        """Take over another batch's rows behind one's own, where the caches allow it; both have been stepped.

        Args:
            other: under the same adapter; of no use afterwards where its rows were taken.
        """
        mine, theirs = _plain_layers(self._cache), _plain_layers(other._cache)
        if not mine or len(mine) != len(theirs):
            return False
        unread = int(self._tokens.shape[1])  # of the mask's columns, the last one is read at the next step
        width = max(self.width, other.width)
        for layer, more in zip(mine, theirs, strict=True):
            both = [_widened(tensor, width - unread) for tensor in (layer.keys, more.keys)]
            layer.keys = torch.cat(both)
            both = [_widened(tensor, width - unread) for tensor in (layer.values, more.values)]
            layer.values = torch.cat(both)
        pads = [torch.nn.functional.pad(one._mask, (width - one.width, 0)) for one in (self, other)]
        self._mask = torch.cat(pads)
        self._tokens = torch.cat([self._tokens, other._tokens])
        self._positions = torch.cat([self._positions, other._positions])
        return True

    def trim(self) -> None:
        """Forget the columns at the left that belong to no row any more."""
        unused = int(self._mask.any(0).long().argmax())
        layers = _plain_layers(self._cache)
        if unused < _TRIM or not layers:
            return
        for layer in layers:
            layer.keys = layer.keys[:, :, unused:].contiguous()
            layer.values = layer.values[:, :, unused:].contiguous()
        self._mask = self._mask[:, unused:]


def _keep_rows(cache: "Cache", kept: Tensor) -> None:
    """Have a cache keep some rows: of keys and values, and of the states that layers without attention carry on."""
    for layer in getattr(cache, "layers", []):
        for states in (getattr(layer, name, None) or {} for name in ("conv_states", "recurrent_states")):
            states.update({i: state[kept] for i, state in states.items() if state is not None})
        if getattr(layer, "keys", None) is not None:
            layer.batch_select_indices(kept)


class _Layer:
    """What is used of a cache's layer."""

    keys: Tensor
    values: Tensor


def _plain_layers(cache: "Cache | None") -> list[_Layer]:
    """Return the layers of a cache of plain keys and values; none where a layer keeps a window, or a state."""
    layers: list[_Layer] = getattr(cache, "layers", None) or []
    plain = all(
        isinstance(getattr(layer, "keys", None), Tensor) and not getattr(layer, "is_sliding", False) for layer in layers
    )
    return layers if plain else []


def _widened(tensor: Tensor, width: int) -> Tensor:
    """Return keys or values (n, heads, L, d) with zeros at the left up to a width."""
    return torch.nn.functional.pad(tensor, (0, 0, width - tensor.shape[2], 0))
