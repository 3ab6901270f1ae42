"""Task vectors: what an adapter does to the model's last hidden states on a task's prompts.

v = z_adapted − z_base, where z is the mean last-layer hidden state over a prompt's tokens, then over the prompts.
At inference no fine-tuned model exists, so the *generated* adapter takes its place, in training and in use alike.

Source: CAO-LLM §2.3, F.5.
"""

import torch
from torch import Tensor

from cao.errors import NotApplicableError
from cao.inference.scoring import ending
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.model.packing import packed_hidden, pieces

MAX_TOKENS = 128
"""Tokens read of a prompt; a longer one keeps its end, which is where the question stands."""
PIECE_TOKENS = 2048
"""Tokens of one forward pass, unless one prompt is longer: bounds the hidden states."""


@torch.inference_mode()
def mean_state(lm: LanguageModel, prompts: list[str], limit: int) -> Tensor:
    """Return z of the model as it is: the mean last hidden state per prompt, averaged over prompts.

    Args:
        lm: the model, with an adapter or without.
        prompts: the task's prompts; those without a token are passed over.
        limit: how many prompts are read at most, from the front.

    Returns:
        (d,) float32, on the CPU.

    Raises:
        NotApplicableError: no prompt has a token.

    Source: CAO-LLM F.5.
    """
    rows = [row for row in (ending(lm, prompt, MAX_TOKENS) for prompt in prompts[:limit]) if row]
    if not rows:
        raise NotApplicableError("no prompt has a token: there is nothing to make a task vector from")
    total = torch.zeros(int(lm.config.hidden_size), dtype=torch.float64)
    for piece in pieces([len(row) for row in rows], PIECE_TOKENS):
        texts = [rows[i] for i in piece]
        with lm.mixed_precision():
            hidden = packed_hidden(lm, texts).float().cpu()
        for states in torch.split(hidden, [len(text) for text in texts]):
            total += states.mean(0)
    return (total / len(rows)).float()


def task_vector(
    lm: LanguageModel, adapter: LoraWeights, prompts: list[str], limit: int, *, base: Tensor | None = None
) -> Tensor:
    """Return v = z_adapted − z_base on the prompts, without gradients.

    Args:
        lm: the base model, without an adapter.
        adapter: the generated adapter.
        prompts: the task's prompts.
        limit: how many of them are read at most.
        base: (d,) z of the base model on the same prompts, where it is known already.

    Returns:
        (d,) float32.

    Raises:
        InputError: the adapter does not fit the model.
        NotApplicableError: no prompt has a token.

    Source: CAO-LLM F.5.
    """
    before = mean_state(lm, prompts, limit) if base is None else base
    with lm.adapted(adapter):
        return mean_state(lm, prompts, limit) - before


def condition(
    lm: LanguageModel, adapter: LoraWeights, prompts: list[str], limit: int, *, with_base_state: bool
) -> Tensor:
    """Return what an aligner is told of a task: the task vector, and for some the base model's state behind it.

    Args:
        lm: the base model, without an adapter.
        adapter: the generated adapter.
        prompts: the task's prompts.
        limit: how many of them are read at most.
        with_base_state: whether z_base follows v.

    Returns:
        (d,) or (2·d,) float32.

    Raises:
        InputError: the adapter does not fit the model.
        NotApplicableError: no prompt has a token.

    Source: CAO-LLM F.5 ("from target prompts using the pre-trained model").
    """
    base = mean_state(lm, prompts, limit)
    vector = task_vector(lm, adapter, prompts, limit, base=base)
    return torch.cat([vector, base]) if with_base_state else vector
