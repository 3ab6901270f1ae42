"""SLOT's kernel: against torch's own AdamW sample by sample, against autograd, and its borders."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cao.machine.linear import linear
from cao.model.packing import pieces
from tools.apply_strategy import latent
from tools.apply_strategy.latent import optimise_delta


def problem(batch: int = 4, length: int = 7, width: int = 12, vocab: int = 31) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(batch, length, width, generator=generator)
    targets = torch.randint(vocab, (batch, length), generator=generator)
    lengths = torch.tensor([7, 1, 0, 4])[:batch]  # one prompt without any target among them
    mask = torch.arange(length) < lengths[:, None]
    return hidden, targets, mask, torch.randn(vocab, width, generator=generator)


def plain(hidden: Tensor, targets: Tensor, weight: Tensor, steps: int, lr: float) -> Tensor:
    """One sample, autograd through the whole vocabulary, torch's AdamW."""
    delta = torch.zeros(hidden.shape[1], dtype=hidden.dtype, requires_grad=True)
    optimiser = torch.optim.AdamW([delta], lr=lr, weight_decay=1e-8, eps=1e-5)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy((hidden + delta) @ weight.T, targets)
        (delta.grad,) = torch.autograd.grad(loss, delta)
        optimiser.step()
    return delta.detach()


@pytest.mark.parametrize(("steps", "lr"), [(1, 0.1), (5, 0.1), (20, 1.0), (5, 1e-5)])
def test_a_batch_equals_torch_adamw_run_on_each_sample_alone(steps: int, lr: float) -> None:
    hidden, targets, mask, weight = problem()
    deltas = optimise_delta(hidden, targets, mask, weight, steps, lr)
    assert deltas.dtype == torch.float32
    for i in (0, 1, 3):
        expected = plain(hidden[i][mask[i]], targets[i][mask[i]], weight, steps, lr)
        torch.testing.assert_close(deltas[i], expected, atol=1e-4, rtol=0)


def test_the_gradient_is_autograds() -> None:
    hidden, targets, mask, weight = problem()
    delta = torch.full((4, 12), 0.3, requires_grad=True)
    loss = sum(
        torch.nn.functional.cross_entropy((hidden[i] + delta[i])[mask[i]] @ weight.T, targets[i][mask[i]])
        for i in (0, 1, 3)
    )
    assert isinstance(loss, Tensor)
    (expected,) = torch.autograd.grad(loss, delta)
    prompts = latent.Prompts(hidden[mask], targets[mask], torch.arange(4).repeat_interleave(mask.sum(1)), 4)
    wanted = latent.mean_targets(prompts, weight)
    for known in (0, 5, 12):  # probabilities of none, of some and of all positions are kept
        kept = latent.probabilities(prompts.states[:known], weight)
        gradient = latent.mean_gradient(prompts, delta.detach(), weight, kept, wanted)
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5)


def test_the_first_step_moves_each_element_by_the_rate_against_the_gradients_sign() -> None:
    # Adam's first step is lr * g / (|g| + eps); with g far above eps that is lr
    hidden, targets, mask, weight = problem(batch=1)
    delta = optimise_delta(hidden, targets, mask, weight, 1, 0.1)
    torch.testing.assert_close(delta.abs(), torch.full_like(delta, 0.1), atol=1e-3, rtol=0)


def test_a_prompt_without_targets_keeps_delta_zero() -> None:
    hidden, targets, mask, weight = problem()
    assert torch.equal(optimise_delta(hidden, targets, mask, weight, 5, 0.1)[2], torch.zeros(12))
    nothing = optimise_delta(hidden[:, :0], targets[:, :0], mask[:, :0], weight, 5, 0.1)
    assert torch.equal(nothing, torch.zeros(4, 12))


def test_padding_is_never_in_the_loss() -> None:
    hidden, targets, mask, weight = problem()
    before = optimise_delta(hidden, targets, mask, weight, 5, 0.1)
    hidden[~mask], targets[~mask] = 1e6, 0
    assert torch.equal(optimise_delta(hidden, targets, mask, weight, 5, 0.1), before)


def test_the_prompts_own_loss_falls() -> None:
    hidden, targets, mask, weight = problem(batch=1)
    delta = optimise_delta(hidden, targets, mask, weight, 5, 0.1)

    def loss(states: Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(states @ weight.T, targets[0]))

    assert loss(hidden[0] + delta) < loss(hidden[0]) - 0.1


def test_blocks_of_positions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    args = (*problem(), 5, 0.1)
    whole = optimise_delta(*args)
    monkeypatch.setattr(latent, "CHUNK_BYTES", 4 * 31 * 5)  # five positions a block, across samples
    torch.testing.assert_close(optimise_delta(*args), whole, atol=1e-5, rtol=0)


def test_a_bf16_head_gives_nearly_the_same_direction() -> None:
    hidden, targets, mask, weight = problem()
    exact = optimise_delta(hidden, targets, mask, weight.bfloat16().float(), 5, 0.1)
    rough = optimise_delta(hidden.bfloat16(), targets, mask, weight.bfloat16(), 5, 0.1)
    kept = [0, 1, 3]
    assert torch.nn.functional.cosine_similarity(exact[kept], rough[kept]).min() > 0.95


def test_more_than_twenty_steps_are_refused() -> None:
    with pytest.raises(AssertionError):
        optimise_delta(*problem(), 21, 0.1)


@pytest.mark.parametrize(("steps", "lr"), [(5, 0.1), (20, 1.0)])
@pytest.mark.parametrize("blocks", [0, 1])
def test_kept_probabilities_change_nothing(steps: int, lr: float, blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, targets, mask, weight = problem()
    single = optimise_delta(hidden, targets, mask, weight, steps, lr)
    exact = optimise_delta(hidden.double(), targets, mask, weight.double(), steps, lr)
    assert (single.dtype, exact.dtype) == (torch.float32, torch.float64)
    monkeypatch.setattr(latent, "CHUNK_BYTES", 4 * 31 * 3)  # three positions a block
    monkeypatch.setattr(latent, "KEPT_BLOCKS", blocks)  # the others take the product with the head anew in each step
    torch.testing.assert_close(optimise_delta(hidden, targets, mask, weight, steps, lr), single, atol=1e-4, rtol=0)
    anew = optimise_delta(hidden.double(), targets, mask, weight.double(), steps, lr)
    torch.testing.assert_close(anew, exact, atol=1e-9, rtol=0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    vocab=st.integers(2, 90),
    block=st.integers(1, 6),
    kept=st.integers(0, 3),
    steps=st.integers(0, 6),
    seed=st.integers(0, 2**20),
)
def test_any_vocabulary_and_any_blocks_equal_autograd(
    lengths: list[int], vocab: int, block: int, kept: int, steps: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(len(lengths), max(lengths), 5, generator=generator, dtype=torch.double)
    targets = torch.randint(vocab, hidden.shape[:2], generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    weight = torch.randn(vocab, 5, generator=generator, dtype=torch.double)
    sizes = {"CHUNK_BYTES": 4 * vocab * block, "MANY": 40, "KEPT_BLOCKS": kept, "KEPT_BLOCKS_OF_MANY": kept + 1}
    with mock.patch.multiple(latent, **sizes):
        deltas = optimise_delta(hidden, targets, mask, weight, steps, 0.1)
    for i, length in enumerate(lengths):
        expected = plain(hidden[i, :length], targets[i, :length], weight, steps if length else 0, 0.1)
        torch.testing.assert_close(deltas[i], expected, atol=1e-7, rtol=0)


def test_probabilities_are_the_softmax_row_by_row_bit_for_bit() -> None:
    hidden, _, _, weight = problem(batch=1)
    states = hidden[0].repeat(20, 1)  # more than a slice
    assert torch.equal(latent.probabilities(states, weight), torch.softmax(linear(states, weight), 1))


def test_a_delta_that_reaches_too_far_is_not_reweighted() -> None:
    hidden, targets, _, weight = problem()
    prompts = latent.Prompts(hidden[0], targets[0], torch.zeros(7, dtype=torch.long), 1)
    kept, wanted = latent.probabilities(hidden[0], weight), latent.mean_targets(prompts, weight)
    for size, same in ((0.1, False), (100.0, True)):
        delta = size * torch.randn(1, 12, generator=torch.Generator().manual_seed(0))
        found = latent.mean_gradient(prompts, delta, weight, kept, wanted)
        anew = latent.mean_gradient(prompts, delta, weight, kept[:0], wanted)
        assert torch.equal(found, anew) == same
        torch.testing.assert_close(found, anew, atol=1e-5, rtol=1e-5)
    nothing = torch.full((1, 12), float("nan"))
    assert latent.mean_gradient(prompts, nothing, weight, kept, wanted).isnan().all()


def test_samples_are_grouped_by_their_positions() -> None:
    assert pieces([3, 0, 2, 4, 9, 1], 5) == [[0, 1, 2], [3], [4], [5]]
    assert pieces([], 5) == []
