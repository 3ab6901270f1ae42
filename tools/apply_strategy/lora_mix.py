"""LORA: what λ does to the current adapter, in one of two readings; the result is a plain adapter.

``butterfly``: ΔW = (α/r)·B·M(λ)·A with M(λ) = [[I, λI], [λI, I]], folded into A: λ = 0 is plain LoRA, λ = 1 the full
butterfly, of rank r/2. The paper leaves λ undefined; blending the identity with the butterfly is this project's
reading. What it adds, λ·(B₁A₂ + B₂A₁), was never trained: B₁ was learnt with A₁ alone.

``strength``: ΔW = (α/r)·(λ·B)·A, the paper's words "adaptation strength" taken plainly: 0 is the model without the
adapter, 1 leaves it, above 1 it goes beyond.

Source: CAO-LLM §2.4, G.2, Eq. 20 (family ``LORA``).
"""

from dataclasses import replace

import torch

from cao.errors import NotApplicableError
from cao.model.adapters import LoraWeights
from cao.strategies.lora_mix import LoraMix
from cao.types import AdaptedModel
from tools.apply_strategy.inputs import Inputs


def apply(strategy: LoraMix, inputs: Inputs) -> AdaptedModel:
    """Mix the halves of the current adapter, or scale it."""
    weights = inputs.weights()
    assert isinstance(weights, LoraWeights), "LoraMix.obstacle"
    if weights.dora:
        raise NotApplicableError("the adapter is DoRA, whose magnitudes mixing would leave behind")
    if strategy.reading == "strength":
        made = inputs.keep(scale(weights, strategy.lambda_))
        note = f"the adapter's change of the weights times {strategy.lambda_:g}"
    else:
        made = inputs.keep(mix(weights, strategy.lambda_))
        note = f"the halves of the adapter's rank {made.rank} mixed with lambda {strategy.lambda_:g}"
    return inputs.under_one(made, note)


def scale(weights: LoraWeights, lam: float) -> LoraWeights:
    """Return the adapter with B' = λ·B, so that ΔW is λ times what it was.

    Args:
        weights: an adapter of any rank.
        lam: λ, 0 or more; 1 returns ``weights`` itself.

    Returns:
        An adapter of the same shapes; A and α are unchanged.

    Source: CAO-LLM §2.4 ("adaptation strength"); this reading is this project's.
    """
    assert lam >= 0.0, lam
    if lam == 1.0:
        return weights
    tensors = {name: lam * tensor if ".lora_B." in name else tensor for name, tensor in weights.tensors.items()}
    return replace(weights, tensors=tensors, provenance={"made_by": f"LORA strength={lam!r}"})


def mix(weights: LoraWeights, lam: float) -> LoraWeights:
    """Return the adapter with A' = M(λ)·A: its upper half A₁ + λA₂, its lower half λA₁ + A₂.

    Args:
        weights: an adapter of even rank r; every A is (r, in).
        lam: λ in [0, 1]; 0 returns ``weights`` itself.

    Returns:
        An adapter of the same shapes; B and α are unchanged.

    Raises:
        NotApplicableError: r is odd, so that it has no two equal halves.

    Source: CAO-LLM §2.4, Eq. 20.
    """
    assert 0.0 <= lam <= 1.0, lam
    if weights.rank % 2:
        raise NotApplicableError(f"the adapter has the odd rank {weights.rank}: mixing needs two equal halves")
    if lam == 0.0:
        return weights
    tensors = dict(weights.tensors)
    for module in weights.modules():
        upper, lower = tensors[f"{module}.lora_A.weight"].chunk(2)
        tensors[f"{module}.lora_A.weight"] = torch.cat([upper + lam * lower, lam * upper + lower])
    return replace(weights, tensors=tensors, provenance={"made_by": f"LORA lambda={lam!r}"})
