"""SLOT as its description reads, a sample at a time: what the batched implementation is held against.

Source: CAO-LLM §2.4, G.5; one δ a sample, AdamW, the prompt's own next-token loss.
"""

import torch
from torch import Tensor, nn

from cao.model.language_model import LanguageModel
from tools.apply_strategy.latent import EPS, WEIGHT_DECAY


def _optimiser(delta: Tensor, lr: float) -> torch.optim.AdamW:
    return torch.optim.AdamW([delta], lr=lr, weight_decay=WEIGHT_DECAY, eps=EPS)


def states_of(lm: LanguageModel, ids: Tensor) -> Tensor:
    """Return the last hidden states of one prompt, (L, d).

    Args:
        lm: the model.
        ids: (1, L) token ids.
    """
    with torch.no_grad():
        hidden: Tensor = lm.trunk(input_ids=ids, use_cache=False).last_hidden_state[0]
    return hidden


def cached(states: Tensor, targets: Tensor, head_weight: Tensor, steps: int, lr: float) -> Tensor:
    """Return δ of one sample from its hidden states, (d,), float32 or wider: each step by autograd through the head.

    Args:
        states: (n, d) hidden states, position i predicts ``targets[i]``.
        targets: (n,) token ids.
        head_weight: (V, d).
        steps: T.
        lr: learning rate.
    """
    dtype = torch.promote_types(head_weight.dtype, torch.float32)
    delta = torch.zeros(states.shape[1], dtype=dtype, device=states.device, requires_grad=True)
    optimiser = _optimiser(delta, lr)
    for _ in range(steps if len(targets) else 0):
        moved = (states.to(dtype) + delta).to(head_weight.dtype)
        loss = nn.functional.cross_entropy((moved @ head_weight.T).to(dtype), targets)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return delta.detach()


def forward_each_step(lm: LanguageModel, tokens: list[int], steps: int, lr: float) -> Tensor:
    """Return δ of one sample, (d,) float32, with the model's whole forward in every step.

    Args:
        lm: the model.
        tokens: of the prompt.
        steps: T.
        lr: learning rate.
    """
    ids = torch.tensor([tokens], device=lm.device)
    weight = lm.head.weight
    delta = torch.zeros(weight.shape[1], device=lm.device, requires_grad=True)
    optimiser = _optimiser(delta, lr)
    for _ in range(steps if len(tokens) > 1 else 0):
        moved = (states_of(lm, ids)[:-1].float() + delta).to(weight.dtype)
        loss = nn.functional.cross_entropy((moved @ weight.T).float(), ids[0, 1:])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return delta.detach()
