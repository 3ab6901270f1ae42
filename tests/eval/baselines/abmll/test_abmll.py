"""ABMLL: divergence and prior against sampling and SciPy; without them it is plain first-order meta-training."""

from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from cao.model.adapters import LoraWeights
from eval.baselines.abmll.gaussian import FLOOR, Pair, divergence, first_pair, prior_energy, spread
from eval.baselines.abmll.method import AbmllSettings, Problem, meta_step

MODULE = "layers.0.q"
START = LoraWeights(
    2,
    4,
    ("q",),
    {f"{MODULE}.lora_A.weight": torch.zeros(2, 5), f"{MODULE}.lora_B.weight": torch.zeros(3, 2)},
    "",
)


def normals(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean_q, mean_p = (torch.randn(count, generator=generator, dtype=torch.float64) for _ in range(2))
    spread_q, spread_p = (0.3 + torch.rand(count, generator=generator, dtype=torch.float64) for _ in range(2))
    return mean_q, spread_q, mean_p, spread_p


def test_the_divergence_is_the_mean_log_ratio_of_samples() -> None:
    mean_q, spread_q, mean_p, spread_p = normals(0, 4)
    draws = mean_q + spread_q * torch.randn(400_000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    log_q = stats.norm.logpdf(draws.numpy(), mean_q.numpy(), spread_q.numpy())
    ratios = torch.tensor(log_q - stats.norm.logpdf(draws.numpy(), mean_p.numpy(), spread_p.numpy())).sum(1)
    error = float(ratios.std()) / len(ratios) ** 0.5
    assert float(divergence(mean_q, spread_q, mean_p, spread_p)) == pytest.approx(float(ratios.mean()), abs=4 * error)


def test_the_divergence_is_zero_from_itself_alone_and_is_not_symmetric() -> None:
    mean_q, spread_q, mean_p, spread_p = normals(2, 6)
    assert float(divergence(mean_q, spread_q, mean_q, spread_q)) == pytest.approx(0, abs=1e-12)
    forth, back = divergence(mean_q, spread_q, mean_p, spread_p), divergence(mean_p, spread_p, mean_q, spread_q)
    assert min(float(forth), float(back)) > 0
    assert float(forth) != pytest.approx(float(back))


def test_the_priors_energy_is_that_of_scipys_distributions() -> None:
    mean, sigma, _, _ = normals(3, 5)
    for shape, rate in ((1.0, 0.01), (2.5, 0.7)):
        wanted = (
            -stats.norm.logpdf(mean.numpy()).sum()
            - stats.gamma.logpdf(sigma.numpy() ** -2, shape, scale=1 / rate).sum()
        )
        assert float(prior_energy(mean, sigma, shape, rate)) == pytest.approx(wanted)


def test_a_spread_is_softplus_of_a_low_rank_product_and_above_its_floor() -> None:
    b, a = torch.tensor([[1.0], [-200.0]]), torch.tensor([[2.0]])
    found = spread(b, a, 1e-20)
    assert found[:, 0].tolist() == pytest.approx([float(torch.tensor(2.0).exp().log1p()) + FLOOR, FLOOR])


def problem(settings: AbmllSettings) -> tuple[Problem, torch.optim.Optimizer]:
    """A global pair and a task's pair of one module of 3 x 5, and AdamW on the former."""
    theta = Pair.of({n: v.double().requires_grad_() for n, v in first_pair(START, 0.5, 0).named().items()})
    phi = Pair.of({n: v.detach().clone().requires_grad_() for n, v in theta.named().items()})
    optimizer = torch.optim.AdamW(list(theta.named().values()), lr=settings.outer_rate, weight_decay=settings.decay)
    return Problem(theta, phi, [MODULE], START.alpha / START.rank, settings), optimizer


def towards(mean: dict[str, Tensor], goal: float) -> Callable[[], Tensor]:
    """A loss of the module's product, with a goal of its own."""
    b, a = mean[f"{MODULE}.lora_B.weight"], mean[f"{MODULE}.lora_A.weight"]
    return lambda: (b @ a - goal).square().sum()


PLAIN = AbmllSettings(beta=0.0, gamma=0.0, inner_rate=0.01, outer_rate=0.02, inner_steps=5, outer_batches=2)


def test_without_divergence_and_prior_it_is_plain_training_from_the_moved_weights() -> None:
    found, optimizer = problem(PLAIN)
    weights = {n: v.detach().clone().requires_grad_() for n, v in found.theta.mean.items()}
    spreads = {n: v.detach().clone() for n, v in found.theta.spread.items()}
    plain = torch.optim.AdamW(list(weights.values()), lr=PLAIN.outer_rate, weight_decay=PLAIN.decay)
    for number in range(4):
        goals = [0.1 * (number + i) for i in range(7)]
        mean = found.phi.mean
        meta_step(found, [towards(mean, g) for g in goals[:5]], [towards(mean, g) for g in goals[5:]], optimizer)
        moved = {n: v.detach().clone().requires_grad_() for n, v in weights.items()}
        for goal in goals[:5]:
            slopes = torch.autograd.grad(towards(moved, goal)(), list(moved.values()))
            moved = {
                n: (v - 0.01 * s).detach().requires_grad_() for (n, v), s in zip(moved.items(), slopes, strict=True)
            }
        total = (towards(moved, goals[5])() + towards(moved, goals[6])()) / 2
        for value, slope in zip(weights.values(), torch.autograd.grad(total, list(moved.values())), strict=True):
            value.grad = slope
        plain.step()
    for name, value in weights.items():
        assert torch.allclose(found.theta.mean[name], value, atol=1e-12)
    assert all(torch.equal(found.theta.spread[name], value) for name, value in spreads.items())


def test_the_next_task_begins_at_theta_again() -> None:
    found, optimizer = problem(PLAIN)
    meta_step(found, [towards(found.phi.mean, 1.0)], [towards(found.phi.mean, 1.0)], optimizer)
    assert not torch.equal(found.phi.mean[f"{MODULE}.lora_A.weight"], found.theta.mean[f"{MODULE}.lora_A.weight"])
    found.reset()
    for name, value in found.theta.named().items():
        assert torch.equal(found.phi.named()[name], value)


@pytest.mark.parametrize("moved", ["phi", "theta"])
def test_gradients_of_divergence_and_prior_are_those_of_the_whole_sum(moved: str) -> None:
    settings = PLAIN.model_copy(update={"beta": 0.3, "gamma": 0.2})
    found, _ = problem(settings)
    with torch.no_grad():
        for value in found.phi.named().values():
            value += 0.1
    named = getattr(found, moved).named()
    (mean_q, spread_q), (mean_p, spread_p) = (
        pair.module(MODULE, found.scale, settings.offset) for pair in (found.phi, found.theta)
    )
    total = 0.3 * divergence(mean_q, spread_q, mean_p, spread_p)
    if moved == "theta":
        total = total + 0.2 * prior_energy(mean_p, spread_p, 1.0, 0.01)
    wanted = dict(zip(named, torch.autograd.grad(total, list(named.values())), strict=True))
    before = {name: value.detach().clone() for name, value in named.items()}
    nothing = lambda: found.phi.mean[f"{MODULE}.lora_A.weight"].sum() * 0.0  # noqa: E731
    if moved == "theta":
        found.outer([nothing])
        slopes = {name: value.grad for name, value in named.items()}
    else:
        found.inner(nothing)
        slopes = {name: (before[name] - value) / settings.inner_rate for name, value in named.items()}
    for name, slope in wanted.items():
        assert torch.allclose(slopes[name], slope, atol=1e-9), name


def test_the_papers_settings_are_appendix_hs() -> None:
    paper = AbmllSettings()
    assert (paper.rank, paper.scale, paper.offset, paper.beta, paper.gamma) == (8, 0.01, 1e-20, 5e-7, 2e-20)
    assert (paper.shape, paper.prior_rate, paper.inner_rate, paper.outer_rate) == (1.0, 0.01, 1e-5, 1e-5)
    assert (paper.inner_steps, paper.outer_batches, paper.batch, paper.epochs) == (5, 5, 2, 10)
    assert set(paper.targets) == {"q_proj", "k_proj", "v_proj", "o_proj"}
