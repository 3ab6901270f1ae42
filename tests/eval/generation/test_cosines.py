"""How alike the adapters of tasks are, by hand."""

import numpy as np
import pytest
import torch

from cao.model.adapters import LoraWeights
from eval.generation.cosines import alikeness, centred, halves


def adapter(seed: int, scale: float = 1.0) -> LoraWeights:
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for module, out, into in (("layers.0.q", 6, 5), ("layers.0.o", 5, 6)):
        tensors[f"{module}.lora_A.weight"] = torch.randn(2, into, generator=generator)
        tensors[f"{module}.lora_B.weight"] = scale * torch.randn(out, 2, generator=generator)
    return LoraWeights(2, 8, ("q", "o"), tensors, "0" * 64, {})


def test_less_the_mean_is_that_of_the_whole_vectors() -> None:
    flat = np.random.default_rng(0).normal(size=(3, 5))
    left = flat - flat.mean(0)
    assert centred(flat @ flat.T) == pytest.approx(left @ left.T)


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
