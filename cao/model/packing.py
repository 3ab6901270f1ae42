"""Sequence packing: one forward pass over many texts with hardly any padding.

Short texts share a row, first fit by falling length; a mask keeps each to itself and positions begin anew, so that
every text is read as if it stood alone. A pass's cost is then that of its real tokens, and the weights are read once
for all of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cao.model.language_model import LanguageModel

ROW_TOKENS = 256
"""Tokens of a row, unless a single text is longer: attention's cost grows with it, padding falls."""

ALONE_TOKENS = 2048
"""Tokens of a pass over texts of one length."""

STEP = 32
"""Rows are as many tokens long as a multiple of this: memory is kept for every shape that was ever computed."""


def pieces(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Divide texts, in their order, into forward passes of at most ``most`` tokens, or of one text.

    Args:
        lengths: tokens of each text.
        most: tokens of a pass.

    Returns:
        Lists of positions in ``lengths``; every position is in one of them.
    """
    passes: list[list[int]] = []
    held = 0
    for i, length in enumerate(lengths):
        if passes and held + length <= most:
            passes[-1].append(i)
            held += length
        else:
            passes.append([i])
            held = length
    return passes


def shelves(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Put texts into rows, each where it fits first, the longest before the others.

    Args:
        lengths: tokens of each text.
        width: tokens of a row; at least the longest text's.

    Returns:
        Lists of positions in ``lengths``; every position is in one of them.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = next((number for number, left in enumerate(room) if lengths[i] <= left), len(rows))
        if place == len(rows):
            rows.append([])
            room.append(width)
        rows[place].append(i)
        room[place] -= lengths[i]
    return rows


def as_mask(lm: LanguageModel, visible: Tensor) -> Tensor:
    """Return a mask as the model's attention takes it: as it is, or 0 where it is True and −∞ where not.

    Args:
        lm: the model.
        visible: bool, True where a query sees a key.
    """
    if lm.model.config._attn_implementation == "sdpa":
        return visible
    return torch.zeros_like(visible, dtype=lm.model.dtype).masked_fill(~visible, float("-inf"))


def states_alone(lm: LanguageModel, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return the last hidden states of each text by the library's plain forward, [(tokens, d)].

    No mask, no padding, no neighbour in the row: what the model itself gives. Texts of one length share a pass.

    Args:
        lm: the model, with an adapter or without.
        texts: token ids of B texts, each of one token or more.
    """
    of_text: list[Tensor] = [torch.empty(0)] * len(texts)
    of_length: dict[int, list[int]] = {}
    for i, text in enumerate(texts):
        of_length.setdefault(len(text), []).append(i)
    for length, group in of_length.items():
        for some in pieces([length] * len(group), ALONE_TOKENS):
            ids = torch.tensor([list(texts[group[i]]) for i in some], device=lm.device)
            forget_longest(lm)
            states = lm.trunk(input_ids=ids, use_cache=False).last_hidden_state
            for i, mine in zip(some, states, strict=True):
                of_text[group[i]] = mine
    return of_text


def forget_longest(lm: LanguageModel) -> None:
    """Have rotary positions that grow with a text's length not remember longer texts than the next."""
    for part in lm.trunk.modules():
        for name in [name for name in vars(part) if name.endswith("max_seq_len_cached")]:
            setattr(part, name, 0)


def packed_hidden(lm: LanguageModel, texts: Sequence[Sequence[int]]) -> Tensor:
    """Return the last hidden states behind the final norm of all texts' tokens, end to end: (T, d).

    Gradients flow where they are enabled.

    Args:
        lm: the model, with an adapter or without.
        texts: token ids of B texts, each of one token or more.
    """
    lengths = [len(text) for text in texts]
    roomy = min(ROW_TOKENS, lm.paths.longest or ROW_TOKENS)
    rows = shelves(lengths, max(roomy, *lengths))
    width = max(sum(lengths[i] for i in row) for row in rows)
    if not lm.paths.fit(width):
        return torch.cat(states_alone(lm, texts))
    width += -width % STEP
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    ids = torch.full_like(positions, texts[0][-1])  # a padding token's embedding may be 0, where a norm has no gradient
    owner = torch.full_like(ids, -1)
    begins = [0] * len(texts)
    for number, row in enumerate(rows):
        at = 0
        for i in row:
            here = slice(at, at + lengths[i])
            ids[number, here], owner[number, here] = torch.tensor(texts[i]), i
            positions[number, here] = torch.arange(lengths[i])
            begins[i] = number * width + at
            at += lengths[i]
    visible = (owner[:, :, None] == owner[:, None, :]).tril()
    states: Tensor = lm.trunk(
        input_ids=ids.to(lm.device),
        position_ids=positions.to(lm.device),
        attention_mask=as_mask(lm, visible[:, None].to(lm.device)),
        use_cache=False,
    ).last_hidden_state
    order = torch.cat([torch.arange(begin, begin + length) for begin, length in zip(begins, lengths, strict=True)])
    return states.flatten(0, 1)[order.to(lm.device)]
