"""Latent behind a soft-capped head: the slope is autograd's own, whatever is kept and however many blocks there are."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cao.inference.head_gradient import BLOCK, nll_and_slope
from tools.apply_strategy.latent_capped import KEPT, CappedPrompt

CAP = 3.0


def capped(products: Tensor) -> Tensor:
    return CAP * torch.tanh(products / CAP)


@pytest.fixture
def head() -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(8, 50)


def drawn(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    states = 2 * torch.randn(count, 8, generator=generator)
    return states, torch.randint(0, 50, (count,), generator=generator)


@pytest.mark.parametrize("count", [1, BLOCK, BLOCK + 1, KEPT + BLOCK + 3])
def test_the_slope_is_autograds_own(count: int, head: nn.Linear) -> None:
    states, targets = drawn(count)
    delta = torch.full((1, 8), 0.3, requires_grad=True)
    loss = F.cross_entropy(capped(head(states + delta)), targets)
    (own,) = torch.autograd.grad(loss, delta)
    with torch.inference_mode():  # as scoring calls it
        found = CappedPrompt(states, targets, head, capped).slope(delta.detach())
    torch.testing.assert_close(found, own, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 2 * BLOCK + 1])
@pytest.mark.parametrize("gradient", [True, False])
def test_blocks_do_not_change_losses_and_slopes(count: int, gradient: bool, head: nn.Linear) -> None:
    states, targets = drawn(count)
    losses, slopes = nll_and_slope(states, targets, lambda hidden: capped(head(hidden)), gradient=gradient)
    free = states.clone().requires_grad_()
    own = F.cross_entropy(capped(head(free)), targets, reduction="none")
    torch.testing.assert_close(losses, own.detach())
    wanted = torch.autograd.grad(own.sum(), free)[0] if gradient else torch.zeros_like(states)
    torch.testing.assert_close(slopes, wanted)
