"""Latent (SLOT): one vector per sample, fitted to the prompt itself on cached hidden states.

The vector δ is added to the last hidden states behind the final norm. It starts at zero and takes a few AdamW
steps down the prompt's own next-token loss; only the LM head is evaluated, never the transformer.

Source: CAO-LLM §2.4, G.5 (family ``Latent``); AdamW's weight decay and eps are those of the SLOT reference.
"""

import torch
from torch import Tensor

MAX_STEPS = 20
WEIGHT_DECAY, EPS, BETA1, BETA2 = 1e-8, 1e-5, 0.9, 0.999
CHUNK_BYTES = 2**27
"""Bound on one block of float32 logits."""
KEPT_BLOCKS = 2
"""Blocks of probabilities that are kept between the steps."""
WIDEST = 40.0
"""Largest range of W·δ in nats, at which the kept float32 probabilities still hold every token that counts."""


def optimise_delta(
    hidden: Tensor,
    targets: Tensor,
    mask: Tensor,
    head_weight: Tensor,
    steps: int,
    lr: float,
    *,
    keep: bool | None = None,
) -> Tensor:
    """Return each sample's δ after ``steps`` AdamW steps on its own mean next-token loss, from zero.

    Samples do not interact: the loss is the sum of the samples' means, and AdamW works element by element.
    The gradient of one position is W'(softmax(W(h+δ)) − onehot(target)), so no graph is kept through the
    vocabulary. W(h+δ) = Wh + Wδ, and Wδ is the same at all positions of a sample: the large product with the head is
    taken once, and a step costs one row of the vocabulary a sample instead of one a position.

    AdamW divides by the gradient's own size, so δ is of the rate's order even where the gradient is rounding error: two
    float32 implementations agree there only if they round alike. A float32 head is therefore taken anew in each step,
    as a plain implementation does; in half precision rounding is larger anyway, in double it does not matter.

    Args:
        hidden: (B, L, d) last hidden states of the prompts; position i predicts ``targets[:, i]``.
        targets: (B, L) token ids.
        mask: (B, L) bool, the positions whose target lies inside the prompt; nothing else is in the loss.
        head_weight: (V, d) of the LM head; its dtype is that of the products with it.
        steps: T, 0 to 20.
        lr: learning rate of AdamW.
        keep: whether the large product is taken once; None unless the head is float32.

    Returns:
        (B, d), float32, or float64 where the head is. Zero for a sample without targets (a prompt of one token).

    Source: CAO-LLM §2.4, G.5.
    """
    batch, length, width = hidden.shape
    assert targets.shape == mask.shape == (batch, length), (hidden.shape, targets.shape, mask.shape)
    assert head_weight.shape[1] == width, (hidden.shape, head_weight.shape)
    assert 0 <= steps <= MAX_STEPS, steps
    dtype = torch.promote_types(head_weight.dtype, torch.float32)
    keep = head_weight.dtype != torch.float32 if keep is None else keep
    found = torch.zeros(batch, width, dtype=dtype, device=hidden.device)
    most = KEPT_BLOCKS * _block(head_weight) if keep else 0  # one sample by itself rounds as it would alone
    for group in _groups(mask.sum(1).tolist(), most):
        mine = mask[group]
        owner = torch.arange(len(group), device=hidden.device).repeat_interleave(mine.sum(1))
        share = 1.0 / mine.sum(1).clamp(min=1).to(dtype)
        rows = head_weight[targets[group][mine]].to(dtype)
        goal = _mean_rows(rows, owner, share)  # the onehot part, the same in every step
        found[group] = _descend(hidden[group][mine], owner, share, goal, head_weight, steps, lr, keep)
    return found


def _groups(counts: list[int], most: int) -> list[list[int]]:
    """Divide samples, in their order, so that those of a group have ``most`` positions together (or are one)."""
    found: list[list[int]] = []
    held = 0
    for sample, count in enumerate(counts):
        if found and held + count <= most:
            found[-1].append(sample)
            held += count
        else:
            found.append([sample])
            held = count
    return found


def _descend(
    states: Tensor, owner: Tensor, share: Tensor, goal: Tensor, head_weight: Tensor, steps: int, lr: float, keep: bool
) -> Tensor:
    """Return δ of one group of samples, (b, d); ``states`` are (n, d), ``owner`` names the sample of each."""
    delta = torch.zeros_like(goal)
    first, second = torch.zeros_like(delta), torch.zeros_like(delta)
    kept = None
    if keep and steps and len(states) <= KEPT_BLOCKS * _block(head_weight):
        kept = _probabilities(states, head_weight)
    states = states.to(goal.dtype)
    for step in range(1, steps + 1):
        expected = None if kept is None else _reweighted_rows(kept, delta, owner, share, head_weight)
        if expected is None:
            expected = _expected_rows(states, delta, owner, share, head_weight)
        gradient = expected - goal
        first = BETA1 * first + (1 - BETA1) * gradient
        second = BETA2 * second + (1 - BETA2) * gradient**2
        direction = (first / (1 - BETA1**step)) / ((second / (1 - BETA2**step)).sqrt() + EPS)
        delta = delta * (1 - lr * WEIGHT_DECAY) - lr * direction
    return delta


def _block(head_weight: Tensor) -> int:
    return max(1, CHUNK_BYTES // (4 * head_weight.shape[0]))


def _probabilities(states: Tensor, head_weight: Tensor) -> Tensor:
    """Return softmax(Wh), (n, V) float32, or float64 where the head is."""
    dtype = torch.promote_types(head_weight.dtype, torch.float32)
    kept = torch.empty(len(states), head_weight.shape[0], dtype=dtype, device=states.device)
    rows = _block(head_weight)
    for start in range(0, len(states), rows):
        logits = states[start : start + rows].to(head_weight.dtype) @ head_weight.T
        kept[start : start + rows] = torch.softmax(logits, 1, dtype=dtype)
    return kept


def _reweighted_rows(kept: Tensor, delta: Tensor, owner: Tensor, share: Tensor, head_weight: Tensor) -> Tensor | None:
    """Return what ``_expected_rows`` does, from the probabilities at δ = 0: softmax(Wh + Wδ) ∝ softmax(Wh)·exp(Wδ).

    Args:
        kept: (n, V) softmax(Wh).
        delta: (b, d).
        owner: (n,) the sample of each position, in ascending order.
        share: (b,) what a position weighs.
        head_weight: (V, d).

    Returns:
        (b, d) float32, or None where Wδ reaches so far that a token which float32 has lost might count.
    """
    shift = (delta.to(head_weight.dtype) @ head_weight.T).to(delta.dtype)
    top = shift.amax(1, keepdim=True)
    if not bool((top - shift.amin(1, keepdim=True) <= WIDEST).all()):  # also where it is not a number
        return None
    factor = (shift - top).exp_()
    mean = torch.zeros_like(factor)
    counts = owner.bincount(minlength=len(delta)).tolist()
    for sample, rows in enumerate(torch.split(kept, counts)):
        if len(rows):
            weight = share[sample] / (rows @ factor[sample])
            mean[sample] = (weight @ rows) * factor[sample]
    return (mean.to(head_weight.dtype) @ head_weight).to(delta.dtype)


def _mean_rows(rows: Tensor, owner: Tensor, share: Tensor) -> Tensor:
    total = torch.zeros(len(share), rows.shape[1], dtype=rows.dtype, device=rows.device)
    return total.index_add_(0, owner, rows * share[owner].unsqueeze(1))


def _expected_rows(states: Tensor, delta: Tensor, owner: Tensor, share: Tensor, head_weight: Tensor) -> Tensor:
    """Return each sample's mean over positions of softmax(W(h+δ))·W, (B, d), in blocks of positions."""
    total = torch.zeros_like(delta)
    rows = _block(head_weight)
    for start in range(0, len(states), rows):
        mine = owner[start : start + rows]
        moved = (states[start : start + rows] + delta[mine]).to(head_weight.dtype)
        expected = (moved @ head_weight.T).softmax(1) @ head_weight
        total += _mean_rows(expected.to(delta.dtype), mine, share)
    return total
