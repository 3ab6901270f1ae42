"""The faster product of linear layers: against torch's own, forwards and backwards."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cao.machine import linear as module
from cao.machine.linear import FastLinear, linear, use_fast_linear

SHAPES = [((5, 24), 40), ((2, 3, 24), 40), ((1, 24), 16), ((7, 24), 3), ((0, 24), 40), ((24,), 40)]


@pytest.mark.parametrize(("shape", "outputs"), SHAPES)
@pytest.mark.parametrize("bias", [False, True])
def test_the_product_is_torchs(shape: tuple[int, ...], outputs: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(shape, generator=generator), torch.randn(outputs, 24, generator=generator)
    added = torch.randn(outputs, generator=generator) if bias else None
    found = linear(x, weight, added)
    assert found.shape == (*shape[:-1], outputs)
    torch.testing.assert_close(found, F.linear(x, weight, added), atol=1e-5, rtol=1e-5)


def test_a_transposed_view_and_rows_with_gaps_are_read_as_they_are() -> None:
    x, weight = torch.randn(6, 50)[:, :24], torch.randn(24, 32)
    torch.testing.assert_close(linear(x, weight.T), x @ weight, atol=1e-5, rtol=1e-5)


def test_the_gradient_goes_to_the_input_as_torchs_does() -> None:
    weight, bias = torch.randn(40, 24), torch.randn(40)
    inputs = [torch.randn(3, 5, 24).requires_grad_(), None]
    inputs[1] = inputs[0].detach().clone().requires_grad_()  # type: ignore[union-attr]
    for x, product in zip(inputs, (linear, F.linear), strict=True):
        product(x, weight, bias).pow(2).sum().backward()  # type: ignore[operator, no-untyped-call]
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-3, rtol=1e-4)  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_take_torchs_own_way(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "multiply", None)
    x, weight = torch.randn(4, 24, dtype=dtype), torch.randn(40, 24, dtype=dtype)
    assert torch.equal(linear(x, weight), F.linear(x, weight))


def test_a_weight_that_is_trained_gets_its_gradient() -> None:
    weight = torch.randn(40, 24, requires_grad=True)
    linear(torch.ones(2, 24), weight).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(weight.grad, torch.full((40, 24), 2.0))  # type: ignore[arg-type]


def test_a_torch_without_the_operator_takes_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise AttributeError("no such operator")

    monkeypatch.setattr(module, "multiply", missing)
    module.available.cache_clear()
    try:
        x, weight = torch.randn(4, 24), torch.randn(40, 24)
        assert torch.equal(linear(x, weight), F.linear(x, weight))
    finally:
        monkeypatch.undo()
        module.available.cache_clear()


def test_only_plain_linear_layers_are_changed_and_their_weights_stay() -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(24, 40), Own(40, 24), nn.LayerNorm(24))
    weight, names = model[0].weight, list(model.state_dict())
    use_fast_linear(model)
    assert [type(part) for part in model] == [FastLinear, Own, nn.LayerNorm]
    assert model[0].weight is weight
    assert list(model.state_dict()) == names
