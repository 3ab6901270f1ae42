"""Cosines of gradients, sparsity, norms and signatures by hand arithmetic."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cao.inference.answer_loss import answer_loss, answer_rows
from cao.model.adapters import LoraWeights
from cao.model.cosines import cosines
from cao.model.loading import load_language_model
from cao.tasks import get_task
from cao.types import Example
from eval.paper.adapters.gradients import gradient, mean_gradient, pair_means, products
from eval.paper.adapters.sizes import deltas, pooled, signature, sizes
from eval.paper.adapters.table3 import alike
from eval.paper.adapters.table4 import stated
from tests.conftest import TINY

Q, UP = "base_model.model.model.layers.0.self_attn.q_proj", "base_model.model.model.layers.1.mlp.up_proj"


def lora(halves: dict[str, tuple[list[list[float]], list[list[float]]]], alpha: int = 2) -> LoraWeights:
    """An adapter of rank 1 from its B and A of each module; ΔW = α·B·A."""
    tensors = {}
    for module, (b, a) in halves.items():
        tensors[f"{module}.lora_B.weight"], tensors[f"{module}.lora_A.weight"] = torch.tensor(b), torch.tensor(a)
    return LoraWeights(1, alpha, ("q_proj", "up_proj"), tensors, "0" * 64)


def test_sparsity_and_norms_by_hand() -> None:
    """ΔW = 2·(1, 0)ᵀ·(3, -4) = ((6, -8), (0, 0)) and 2·(1e-7)·(1) = (2e-7)."""
    found = sizes(lora({Q: ([[1.0], [0.0]], [[3.0, -4.0]]), UP: ([[1e-7]], [[1.0]])}))
    assert (found.weights, found.l1, found.largest) == (5, pytest.approx(14 + 2e-7), 8.0)
    assert found.l2 == pytest.approx(10.0)
    assert found.absolute == pytest.approx(3 / 5)  # two zeros, and 2e-7
    assert found.relative == pytest.approx(3 / 5)  # below a hundredth of 10/√5
    assert found.spread == pytest.approx(14 / (10 * math.sqrt(5)))
    assert found.factors == pytest.approx(2 / 6)  # of B (1, 0), A (3, -4), B (1e-7), A (1)


def test_an_adapter_that_changes_nothing_is_sparse_and_has_no_spread() -> None:
    found = sizes(lora({Q: ([[0.0], [0.0]], [[3.0, -4.0]])}))
    assert (found.absolute, found.l1, found.l2, found.spread) == (1.0, 0.0, 0.0, 0.0)


@given(scale=st.floats(1e-3, 1e3))
def test_relative_sparsity_does_not_know_the_scale(scale: float) -> None:
    draws = torch.Generator().manual_seed(0)
    b, a = torch.randn(40, 1, generator=draws), torch.randn(1, 30, generator=draws)
    first, second = (sizes(lora({Q: ((s * b).tolist(), a.tolist())})) for s in (1.0, scale))
    assert second.relative == pytest.approx(first.relative, abs=2 / 1200)
    assert second.l2 == pytest.approx(scale * first.l2, rel=1e-5)


def test_a_signature_is_the_norm_of_each_change() -> None:
    draws = torch.Generator().manual_seed(1)
    weights = lora({module: (torch.randn(4, 1, generator=draws).tolist(), [[1.0, 2.0, 3.0]]) for module in (Q, UP)})
    norms = [float(change.norm()) for change in deltas(weights)]
    assert signature(weights) == {"q_proj": [pytest.approx(norms[0])], "up_proj": [pytest.approx(norms[1])]}


def test_pooling_keeps_the_largest_of_a_block_with_its_sign() -> None:
    change = torch.tensor([[1.0, -5.0, 2.0], [3.0, 4.0, -1.0], [0.0, 0.5, -7.0]])
    assert pooled(change, 2).tolist() == [[-5.0, 2.0], [0.5, -7.0]]
    assert torch.equal(pooled(change, 3), change)


def test_products_are_those_of_whole_vectors_and_of_some_modules() -> None:
    one = {f"{Q}.lora_A.weight": torch.tensor([[3.0, 4.0]]), f"{UP}.lora_B.weight": torch.tensor([[12.0]])}
    two = {f"{Q}.lora_A.weight": torch.tensor([[4.0, 3.0]]), f"{UP}.lora_B.weight": torch.tensor([[0.0]])}
    assert cosines(products([one, two]))[0, 1] == pytest.approx(24 / (13 * 5))
    assert cosines(products([one, two], ("q_proj",)))[0, 1] == pytest.approx(24 / 25)
    mean = mean_gradient([one, two])
    assert mean[f"{Q}.lora_A.weight"].tolist() == [[3.5, 3.5]]


def test_a_bootstrap_over_tasks_pairs_different_tasks_only() -> None:
    matrix = np.full((3, 3), 0.5)
    np.fill_diagonal(matrix, 9.0)  # never read
    assert pair_means(matrix, 50).tolist() == [0.5] * 50


def test_cosines_between_tasks_by_hand() -> None:
    seeds = np.array([[[1, 0.2, 0.4], [0.2, 1, 0.6], [0.4, 0.6, 1]], [[1, 0.4, 0.4], [0.4, 1, 0.6], [0.4, 0.6, 1]]])
    found = alike(seeds)
    assert found is not None
    assert (found.mean, found.low, found.high, found.pairs) == (pytest.approx(13 / 30, abs=1e-4), 0.3, 0.6, 3)
    assert found.deviation == pytest.approx(np.std([0.3, 0.4, 0.6], ddof=1), abs=1e-4)
    assert found.ci95[0] <= found.mean <= found.ci95[1]
    assert alike(seeds[:, :1, :1]) is None


def test_a_mean_over_tasks_has_an_interval_over_them() -> None:
    found = stated(np.array([[1.0, 1.0], [3.0, 3.0]]))
    assert (found.mean, found.ci95) == (2.0, (1.0, 3.0))
    assert stated(np.full((4, 1), 7.0)).ci95 == (7.0, 7.0)


def test_at_the_initialisation_only_b_has_a_gradient_and_it_is_that_of_the_loss(tiny_model_folder: Path) -> None:
    """B = 0 makes A's gradient zero; along B's the loss rises by what the gradient says."""
    lm = load_language_model(TINY, path=str(tiny_model_folder), dtype="float32", offline=True)
    asked = [Example(id=str(i), question=f"Can {i} fly?", choices=("yes", "no"), answer=i % 2) for i in range(4)]
    rows, start = answer_rows(lm, get_task("arc_easy"), asked, 64), lm.fresh_lora(0)
    found = gradient(lm, start, rows)
    assert all(not value.any() for name, value in found.items() if "lora_A" in name)
    length = math.sqrt(sum(float(value.square().sum()) for value in found.values()))
    losses = []
    for step in (-1e-2, 1e-2):
        moved = {name: value + step * found[name] / length for name, value in start.tensors.items()}
        with lm.adapted(LoraWeights(start.rank, start.alpha, start.targets, moved, start.base_sha256)):
            losses.append(float(answer_loss(lm, rows, gradient=False)))
    assert (losses[1] - losses[0]) / 2e-2 == pytest.approx(length, rel=0.05)
