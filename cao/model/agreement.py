"""Fast ways of computing held against the library's own forward, when a model is loaded.

What a configuration can change is more than a list of names can foresee: activations, biases, norms, windows, what
stands behind the head. So the fast ways are tried on a few tokens, bare and in an adapter, and are taken where they
give what the model itself gives.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cao.errors import InputError
from cao.model.adapters import LoraWeights
from cao.model.fast_paths import FastPaths
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import WRITTEN_OUT, Packed, Row, Span, packed_states

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PROMPT, BRANCHES = 6, (3, 2)
"""Tokens of the prompt and of each branch behind it."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
"""How far, relatively, hidden states may lie apart by rounding alone (bfloat16, 30 layers: .02 to .04)."""
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size", "keep_window_size")
"""What configurations call the tokens that a layer sees at most; a few tokens cannot show such a bound."""
LENGTH_DEPENDENT = ("dynamic", "longrope")
"""Kinds of rotary positions that change where a row is longer than the model was first trained on."""


def compare_paths(lm: LanguageModel) -> FastPaths:
    """Return which fast ways give what the model's own forward gives.

    Args:
        lm: the model, without an adapter.

    Raises:
        InputError: the model cannot be split into what gives hidden states and what makes logits of them.
    """
    generator = torch.Generator().manual_seed(0)
    ends = list(torch.tensor([PROMPT, *BRANCHES]).cumsum(0).tolist())
    tokens = torch.randint(0, len(lm.head.weight), (ends[-1],), generator=generator).tolist()
    row = Row(tokens, PROMPT, tuple(Span(start, start, end) for start, end in pairwise(ends)))
    texts = [tokens[:PROMPT] + tokens[span.start : span.end] for span in row.spans]
    longest = longest_row(lm.config)
    head, behind = _heads(lm, texts[0])
    plain = FastPaths(head=head, longest=longest, behind=behind)
    if longest and longest < len(tokens):
        return plain
    adapted = [lm.adapted(weights) for weights in (None, _random_lora(lm, generator))]
    return _with_rows(lm, plain, row, texts, adapted)


def longest_row(config: "PretrainedConfig") -> int:
    """Return how many tokens a row of several texts may have; 0 where there is no bound.

    Args:
        config: of a transformers model.
    """
    windows = [getattr(config, name, None) for name in WINDOWS]
    rotary = getattr(config, "rope_parameters", None) or {}
    for kind in [rotary, *(each for each in rotary.values() if isinstance(each, dict))]:
        if kind.get("rope_type") in LENGTH_DEPENDENT:
            windows.append(kind.get("original_max_position_embeddings") or config.max_position_embeddings)
    return min((int(window) for window in windows if window), default=0)


@torch.no_grad()
def _with_rows(
    lm: LanguageModel,
    plain: FastPaths,
    row: Row,
    texts: list[list[int]],
    adapted: Iterable[AbstractContextManager[object]],
) -> FastPaths:
    """Return ``plain`` with whether a row's tree, and the layers written out, agree; with an adapter too."""
    trees, layers = replace(plain, trees=True), replace(plain, trees=True, layers=True)
    agree = {trees: True, layers: type(lm.trunk).__name__ in WRITTEN_OUT}
    packed = Packed.of([row], lm.device)
    for context in adapted:
        with context:
            own = [lm.trunk(input_ids=_ids(lm, text), use_cache=False).last_hidden_state[0] for text in texts]
            for paths in agree:
                agree[paths] = agree[paths] and _agrees(lm, paths, packed, own)
    return layers if all(agree.values()) else trees if agree[trees] else plain


def _agrees(lm: LanguageModel, paths: FastPaths, packed: Packed, own: list[Tensor]) -> bool:
    """Return whether some paths give the hidden states of each branch with its prompt."""
    before, lm.paths = lm.paths, paths
    try:
        states = packed_states(lm, packed)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):  # an architecture that knows no such mask
        return False
    finally:
        lm.paths = before
    (row,) = packed.rows
    texts = [torch.cat([states[: row.prompt], states[span.start : span.end]]) for span in row.spans]
    return all(close(a, b) for a, b in zip(texts, own, strict=True))


def _heads(lm: LanguageModel, text: list[int]) -> tuple[bool, bool]:
    """Return whether logits are the head's product alone, and if not, whether they are made of it.

    Raises:
        InputError: nor are they what the library makes of the hidden states.
    """
    with torch.no_grad():
        own = lm.model(input_ids=_ids(lm, text), use_cache=False).logits[0].float()
        try:
            states = lm.trunk(input_ids=_ids(lm, text), use_cache=False).last_hidden_state[0]
            plain = getattr(lm.head, "bias", None) is None and close(lm.head(states).float(), own, 1e-4)
            if plain or close(lm.logits(states).float(), own, 1e-4):
                return plain, not plain and _made_of_products(lm, states, own)
        except (AttributeError, RuntimeError, TypeError, ValueError):
            pass
    raise InputError(f"{type(lm.model).__name__} is not supported: its hidden states and its head do not come apart")


def _made_of_products(lm: LanguageModel, states: Tensor, own: Tensor) -> bool:
    try:
        return close(lm.behind_head(lm.head(states)).float(), own, 1e-4)
    except (AttributeError, RuntimeError, TypeError, ValueError, NotImplementedError):
        return False


def close(a: Tensor, b: Tensor, tolerance: float | None = None) -> bool:
    """Return whether two results differ by rounding alone; what is not finite differs."""
    most = TOLERANCE.get(a.dtype, 0.0) if tolerance is None else tolerance
    return bool((a.float() - b.float()).norm() <= most * b.float().norm())


def _ids(lm: LanguageModel, text: list[int]) -> Tensor:
    return torch.tensor([text], device=lm.device)


def _random_lora(lm: LanguageModel, generator: torch.Generator) -> LoraWeights:
    """Return an adapter that changes something everywhere."""
    weights = lm.fresh_lora(0)
    tensors = {
        name: 0.02 * torch.randn(tensor.shape, generator=generator) if "lora_B" in name else tensor
        for name, tensor in weights.tensors.items()
    }
    return replace(weights, tensors=tensors)
