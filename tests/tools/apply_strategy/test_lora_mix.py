"""LORA: ΔW = (α/r)·B·M(λ)·A by hand arithmetic."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cao.errors import NotApplicableError
from cao.model.adapters import LoraWeights
from cao.strategies import FAMILIES, Standing
from cao.strategy import validate_strategy
from cao.types import AdaptedModel, AdapterRef
from tools.apply_strategy.lora_mix import mix, scale

MODULE = "base_model.model.x.q_proj"


def weights(a: torch.Tensor, b: torch.Tensor, alpha: int = 4) -> LoraWeights:
    tensors = {f"{MODULE}.lora_A.weight": a, f"{MODULE}.lora_B.weight": b}
    return LoraWeights(a.shape[0], alpha, ("q_proj",), tensors, "base")


def delta(lora: LoraWeights) -> torch.Tensor:
    a, b = lora.tensors[f"{MODULE}.lora_A.weight"], lora.tensors[f"{MODULE}.lora_B.weight"]
    return lora.alpha / lora.rank * b @ a


def test_by_hand() -> None:
    before = weights(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 10.0]]))
    # M(1/2)·A = [[1 + 3/2, 2 + 4/2], [1/2 + 3, 2/2 + 4]]; α/r = 2
    assert delta(mix(before, 0.5)).tolist() == [[2 * (2.5 + 35.0), 2 * (4.0 + 50.0)]]


@given(st.floats(0, 1), st.sampled_from([2, 4, 8]), st.integers(0, 99))
def test_equals_the_matrix_written_out(lam: float, rank: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    before = weights(torch.randn(rank, 6, generator=generator), torch.randn(5, rank, generator=generator))
    eye = torch.eye(rank // 2)
    matrix = torch.cat([torch.cat([eye, lam * eye], 1), torch.cat([lam * eye, eye], 1)])
    a, b = before.tensors[f"{MODULE}.lora_A.weight"], before.tensors[f"{MODULE}.lora_B.weight"]
    assert torch.allclose(delta(mix(before, lam)), 4 / rank * b @ matrix @ a, atol=1e-4)


def test_zero_changes_nothing_and_the_input_is_never_written() -> None:
    a = torch.randn(4, 6)
    before = weights(a.clone(), torch.randn(5, 4))
    assert mix(before, 0.0) is before
    mix(before, 0.7)
    assert torch.equal(before.tensors[f"{MODULE}.lora_A.weight"], a)


def test_strength_by_hand() -> None:
    before = weights(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([[1.0, 10.0, 100.0]]), alpha=6)
    assert delta(before).tolist() == [[2 * 531.0, 2 * 642.0]]  # α/r = 2, an odd rank
    assert delta(scale(before, 0.25)).tolist() == [[0.25 * 2 * 531.0, 0.25 * 2 * 642.0]]
    assert delta(scale(before, 1.5)).tolist() == [[1.5 * 2 * 531.0, 1.5 * 2 * 642.0]]
    assert not delta(scale(before, 0.0)).any()
    assert scale(before, 1.0) is before


def test_the_full_butterfly_has_half_the_rank() -> None:
    before = weights(torch.randn(8, 32), torch.randn(24, 8))
    assert torch.linalg.matrix_rank(delta(before)) == 8
    assert torch.linalg.matrix_rank(delta(mix(before, 1.0))) == 4
    assert torch.linalg.matrix_rank(delta(mix(before, 0.9))) == 8


def test_an_odd_rank_has_no_halves() -> None:
    with pytest.raises(NotApplicableError, match="odd rank 3"):
        mix(weights(torch.randn(3, 6), torch.randn(5, 3)), 0.5)


def test_an_odd_rank_can_be_scaled_and_not_mixed() -> None:
    adapter = AdapterRef(path="x", sha256="x", base_sha256="base", rank=3)
    standing = Standing(AdaptedModel(members=(adapter,)), "tiny", generator=False)
    assert FAMILIES["LORA"].obstacle(standing) is None
    refusals = {
        reading: validate_strategy({"family": "LORA", "lambda": 0.5, "reading": reading}).refusal(standing)
        for reading in ("strength", "butterfly")
    }
    assert refusals["strength"] is None
    assert "odd rank 3" in str(refusals["butterfly"])
