"""Float32 products of linear layers by oneDNN, which is up to twice as fast as torch's default library.

torch's wheels multiply float32 matrices by MKL, which on many processors leaves the widest instructions unused. The
operator behind ``torch.compile`` multiplies by oneDNN and takes the same weights as they are. It has no gradient of its
own; the gradient towards the input is a product of the same kind.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction, FunctionCtx

FEWEST = 16
"""Outputs below which the default library is faster: LoRA's narrow matrices."""


@cache
def available() -> bool:
    """Return whether the operator is there and computes what it should."""
    try:
        x = torch.arange(48, dtype=torch.float32).view(2, 24) / 48
        weight = torch.arange(768, dtype=torch.float32).view(32, 24) / 768
        made = multiply(x, weight, None)
        return bool(torch.allclose(made, x @ weight.T, atol=1e-5))
    except (AttributeError, RuntimeError, NotImplementedError):  # another build of torch
        return False


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x·Wᵀ + b by oneDNN's operator."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


class _Linear(torch.autograd.Function):
    """The product with a frozen weight: the gradient goes to the input alone."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: BackwardCFunction, *grads: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return multiply(grads[0].contiguous(), weight.T, None), None, None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x·Wᵀ + b, as ``torch.nn.functional.linear`` does, by the faster library.

    Args:
        x: (…, i).
        weight: (o, i), a view of any layout.
        bias: (o,), or None.

    Returns:
        (…, o). Anything but float32 on the CPU, narrow matrices, and weights that are trained take torch's own way.
    """
    plain = x.dtype != torch.float32 or weight.dtype != torch.float32 or x.device.type != "cpu"
    if plain or weight.requires_grad or len(weight) < FEWEST or not x.numel() or not available():
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and x.requires_grad:
        result: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return result
    return multiply(x, weight, bias)


class FastLinear(nn.Linear):
    """A linear layer that multiplies by ``linear``."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's own name)
        """Return x·Wᵀ + b."""
        return linear(input, self.weight, self.bias)


def use_fast_linear(module: nn.Module) -> None:
    """Have every plain linear layer of a module multiply by ``linear``; weights and names stay as they are."""
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = FastLinear
