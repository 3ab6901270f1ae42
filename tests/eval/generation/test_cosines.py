"""How alike adapters are, against the whole matrices."""

import numpy as np
import pytest
import torch

from cao.model.adapters import LoraWeights
from eval.generation.cosines import alikeness, centred, cosines, gram, halves


def adapter(seed: int, scale: float = 1.0) -> LoraWeights:
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for module, out, into in (("layers.0.q", 6, 5), ("layers.0.o", 5, 6)):
        tensors[f"{module}.lora_A.weight"] = torch.randn(2, into, generator=generator)
        tensors[f"{module}.lora_B.weight"] = scale * torch.randn(out, 2, generator=generator)
    return LoraWeights(2, 8, ("q", "o"), tensors, "0" * 64, {})


def delta(weights: LoraWeights) -> torch.Tensor:
    """ΔW = (α/r)·B·A of all modules, one after the other."""
    parts = [
        weights.alpha / weights.rank * weights.tensors[f"{m}.lora_B.weight"] @ weights.tensors[f"{m}.lora_A.weight"]
        for m in weights.modules()
    ]
    return torch.cat([each.flatten() for each in parts]).double()


def test_inner_products_are_those_of_the_whole_matrices() -> None:
    three = [adapter(seed) for seed in range(3)]
    flat = torch.stack([delta(weights) for weights in three])
    assert torch.allclose(torch.from_numpy(gram(three)), flat @ flat.T, rtol=1e-5)
    left = flat - flat.mean(0)
    assert torch.allclose(torch.from_numpy(centred(gram(three))), left @ left.T, rtol=1e-4, atol=1e-4)
    wanted = torch.nn.functional.normalize(flat, dim=1)
    assert torch.allclose(torch.from_numpy(cosines(gram(three))), wanted @ wanted.T, atol=1e-6)


def test_an_adapter_of_length_zero_is_like_none() -> None:
    found = cosines(gram([adapter(0), adapter(1, scale=0.0)]))
    assert found[0, 0] == pytest.approx(1)
    assert found[1].tolist() == [0, 0]


def test_halves_compare_different_prompts_only() -> None:
    """Rows: task 0 and 1 from their first prompts, then from their second."""
    found = np.array([[1, 9, 0.8, 0.2], [9, 1, 0.4, 0.6], [0.8, 0.4, 1, 9], [0.2, 0.6, 9, 1]])
    assert halves(found) == pytest.approx(np.array([[0.8, 0.3], [0.3, 0.6]]))


def test_alikeness_is_within_tasks_and_between_them() -> None:
    first, second = [adapter(0), adapter(1)], [adapter(0), adapter(2)]
    found = alikeness(["a", "b"], first, second, variant="full", seed=3)
    assert (found.tasks, found.variant, found.seed) == (("a", "b"), "full", 3)
    assert found.whole.matrix[0][0] == 1.0  # both halves of the first task made the same adapter
    assert found.whole.within is not None
    assert found.whole.within.high == pytest.approx(1.0)
    assert alikeness(["a"], first[:1], second[:1], variant="full", seed=0).whole.between is None
