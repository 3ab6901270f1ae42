"""Cosines of adapters, against the whole matrices."""

import numpy as np
import pytest
import torch

from cao.model.adapters import LoraWeights
from cao.model.cosines import cosines, gram, pairwise

MODULES = (("layers.0.q", 6, 5), ("layers.0.o", 5, 6))


def adapter(seed: int, scale: float = 1.0, rank: int = 2, alpha: int = 8, modules: int = 2) -> LoraWeights:
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for module, out, into in MODULES[:modules]:
        tensors[f"{module}.lora_A.weight"] = torch.randn(rank, into, generator=generator)
        tensors[f"{module}.lora_B.weight"] = scale * torch.randn(out, rank, generator=generator)
    return LoraWeights(rank, alpha, ("q", "o")[:modules], tensors, "0" * 64, {})


def delta(weights: LoraWeights) -> torch.Tensor:
    """ΔW = (α/r)·B·A of all modules, one after the other; zero where a module has none."""
    parts = [torch.zeros(out, into) for _, out, into in MODULES]
    for place, module in enumerate(each for each, _, _ in MODULES if each in weights.modules()):
        b, a = (weights.tensors[f"{module}.lora_{letter}.weight"] for letter in "BA")
        parts[place] = weights.alpha / weights.rank * b @ a
    return torch.cat([each.flatten() for each in parts]).double()


def test_inner_products_are_those_of_the_whole_matrices() -> None:
    several = [adapter(0), adapter(1), adapter(2, rank=3, alpha=5), adapter(3, rank=1, modules=1)]
    flat = torch.stack([delta(weights) for weights in several])
    assert torch.allclose(torch.from_numpy(gram(several)), flat @ flat.T, rtol=1e-5)
    wanted = torch.nn.functional.normalize(flat, dim=1)
    assert torch.allclose(torch.from_numpy(cosines(gram(several))), wanted @ wanted.T, atol=1e-6)


def test_an_adapter_of_length_zero_is_like_none() -> None:
    found = cosines(gram([adapter(0), adapter(1, scale=0.0)]))
    assert found[0, 0] == pytest.approx(1)
    assert found[1].tolist() == [0, 0]


def by_hand(a: list[float], b: list[float]) -> LoraWeights:
    """Rank 1, α 1, one module: ΔW = b·aᵀ."""
    tensors = {"q.lora_A.weight": torch.tensor([a]), "q.lora_B.weight": torch.tensor([b]).T}
    return LoraWeights(1, 1, ("q",), tensors, "0" * 64, {})


def test_pairs_by_hand() -> None:
    """ΔW are [[1, 0], [0, 0]], [[3, 4], [0, 0]], nothing, and [[0, 0], [2, 0]]."""
    four = [by_hand([1, 0], [1, 0]), by_hand([3, 4], [1, 0]), by_hand([1, 1], [0, 0]), by_hand([1, 0], [0, 2])]
    assert pairwise(four).tolist() == pytest.approx([0.6, 0.0, 0.0])
    assert pairwise(four[:1]).tolist() == []
    assert pairwise([]).tolist() == []
    assert isinstance(pairwise(four), np.ndarray)
