"""TTL: the weight and the losses by hand, the gradients against a slow plain version, and training to the bit."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cao.errors import InputError, NotApplicableError
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.model.language_model import LanguageModel
from cao.strategies.ttl import TTL
from tools.apply_strategy import ttl, ttl_loss
from tools.apply_strategy.ttl import train_ttl
from tools.apply_strategy.ttl_loss import (
    LAMBDA,
    LOG_P0,
    MAX_WEIGHT,
    prompt_losses,
    sample_weight,
    token_nll,
)

PROMPTS = [f"Question: How many of the {i} apples are {'very ' * i}red?\nAnswer:" for i in range(7)]


def settings(**changes: object) -> TTL:
    base = {"family": "TTL", "ttl_steps": 4, "learning_rate": 1e-3, "batch_size": 3, "shuffle_data": True}
    return TTL.model_validate({**base, **changes})


@pytest.fixture
def lm(tiny_lm: LanguageModel) -> LanguageModel:
    """The tiny model in float32, so that comparisons are not about rounding."""
    tiny_lm.model = tiny_lm.model.float()
    return tiny_lm


def moved(lm: LanguageModel, seed: int = 1) -> LoraWeights:
    """An adapter that does something: B is not zero."""
    weights = lm.fresh_lora(seed)
    generator = torch.Generator().manual_seed(seed)
    tensors = {n: t + 0.05 * torch.randn(t.shape, generator=generator) for n, t in weights.tensors.items()}
    return LoraWeights(weights.rank, weights.alpha, weights.targets, tensors, weights.base_sha256)


def plain_loss(lm: LanguageModel, row: list[int]) -> Tensor:
    """One prompt, no padding, all logits, plain autograd."""
    logits = lm.model(input_ids=torch.tensor([row])).logits[0].float()
    return torch.stack([-logits[t].log_softmax(-1)[row[t + 1]] for t in range(len(row) - 1)]).mean()


def test_losses_equal_one_prompt_at_a_time(lm: LanguageModel) -> None:
    rows = [lm.encode(prompt) for prompt in PROMPTS]
    with lm.adapted(moved(lm)), torch.no_grad():
        slow = torch.stack([plain_loss(lm, row) for row in rows])
        assert torch.allclose(prompt_losses(lm, rows), slow, atol=1e-5)


def test_gradients_equal_those_of_the_plain_weighted_sum(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ttl_loss, "LOGIT_ELEMENTS", 11 * 400)  # many blocks of logits
    monkeypatch.setattr(ttl_loss, "PIECE_TOKENS", 60)  # several forward passes
    rows = [lm.encode(prompt) for prompt in PROMPTS]
    with lm.adapted(moved(lm), trainable=True) as live:
        losses = prompt_losses(lm, rows, divisor=len(rows))
        fast = {name: parameter.grad.clone() for name, parameter in live.items() if parameter.grad is not None}
        lm.model.zero_grad()
        total = torch.zeros(())
        for row in rows:
            loss = plain_loss(lm, row)
            excess = loss.item() - 3.0
            total = total + loss * (min(0.1 * math.exp(excess), 1.0) if excess > 0 else 0.0) / len(rows)
        total.backward()
        assert bool((losses > LOG_P0).any())
        assert set(fast) == set(live)
        for name, parameter in live.items():
            assert parameter.grad is not None
            assert torch.allclose(fast[name], parameter.grad, atol=1e-6, rtol=1e-3), name


def test_a_prompt_below_the_threshold_leaves_no_gradient(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ttl_loss, "LOG_P0", 50.0)
    with lm.adapted(moved(lm), trainable=True) as live:
        prompt_losses(lm, [lm.encode(prompt) for prompt in PROMPTS], divisor=7)
        assert all(parameter.grad is None for parameter in live.values())


def test_token_nll_by_hand() -> None:
    head = torch.nn.Linear(2, 2, bias=False)
    head.weight.data = torch.eye(2)
    losses, slopes = token_nll(torch.tensor([[0.0, math.log(3)]]), torch.tensor([0]), head, gradient=True)
    assert losses.tolist() == pytest.approx([math.log(4)])  # softmax is (1/4, 3/4)
    assert slopes[0].tolist() == pytest.approx([1 / 4 - 1, 3 / 4])


def test_token_nll_in_blocks_is_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    head = torch.nn.Linear(5, 17, bias=False)
    hidden, targets = torch.randn(23, 5), torch.randint(0, 17, (23,))
    whole = token_nll(hidden, targets, head, gradient=True)
    monkeypatch.setattr(ttl_loss, "LOGIT_ELEMENTS", 4 * 17)
    for one, other in zip(whole, token_nll(hidden, targets, head, gradient=True), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@given(st.floats(-5, 20))
def test_the_weight_is_bounded_and_grows(log_perplexity: float) -> None:
    lower, upper = sample_weight(torch.tensor([log_perplexity, log_perplexity + 0.5])).tolist()
    assert 0 <= lower <= upper <= MAX_WEIGHT + 1e-6
    assert (lower > 0) == (torch.tensor(log_perplexity).item() > LOG_P0)
    assert lower == 0 or lower >= LAMBDA * 0.999


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("kill_at", [1, 3])
def test_a_killed_training_goes_on_to_the_same_bits(
    tiny_lm: LanguageModel, tmp_path: Path, shuffle: bool, kill_at: int
) -> None:
    start, chosen, file = moved(tiny_lm), settings(shuffle_data=shuffle), tmp_path / "ttl.safetensors"
    whole = train_ttl(tiny_lm, PROMPTS, chosen, start, 5)
    steps: list[int] = []

    def kill(label: str, done: int, total: int) -> None:
        steps.append(done)
        if len(steps) == kill_at:
            raise KeyboardInterrupt

    for _ in range(2):
        try:
            resumed = train_ttl(
                tiny_lm, PROMPTS, chosen, start, 5, progress=kill, checkpoint=file, checkpoint_every_s=0
            )
        except KeyboardInterrupt:
            assert file.exists()
    assert steps == [1, 2, 3, 4]  # no step was taken twice
    assert adapter_sha256(resumed) == adapter_sha256(whole)
    assert resumed.provenance == whole.provenance


def test_another_trainings_checkpoint_is_not_taken(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    start, file = tiny_lm.fresh_lora(0), tmp_path / "ttl.safetensors"
    train_ttl(tiny_lm, PROMPTS, settings(), start, 1, checkpoint=file, checkpoint_every_s=0)
    alone = train_ttl(tiny_lm, PROMPTS, settings(), start, 2)
    beside = train_ttl(tiny_lm, PROMPTS, settings(), start, 2, checkpoint=file, checkpoint_every_s=0)
    assert adapter_sha256(alone) == adapter_sha256(beside)


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: b"\xff" * 64])
def test_a_damaged_checkpoint_is_refused(tiny_lm: LanguageModel, tmp_path: Path, damage) -> None:
    start, file = tiny_lm.fresh_lora(0), tmp_path / "ttl.safetensors"
    train_ttl(tiny_lm, PROMPTS, settings(), start, 1, checkpoint=file, checkpoint_every_s=0)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match="damaged"):
        train_ttl(tiny_lm, PROMPTS, settings(), start, 1, checkpoint=file)


def test_training_lowers_the_loss_and_touches_lora_alone(lm: LanguageModel) -> None:
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    start = lm.fresh_lora(0)
    trained = train_ttl(lm, PROMPTS, settings(ttl_steps=20, learning_rate=1e-2), start, 0)
    after = lm.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    rows = [lm.encode(prompt) for prompt in PROMPTS]
    with lm.adapted(start):
        old = prompt_losses(lm, rows).mean().item()
    with lm.adapted(trained):
        new = prompt_losses(lm, rows).mean().item()
    assert new < old - 0.3
    assert float(trained.provenance["loss_before"]) == pytest.approx(old, abs=1e-3)
    assert float(trained.provenance["loss_after"]) < old


def test_the_first_step_moves_b_by_the_learning_rate_at_most(tiny_lm: LanguageModel) -> None:
    start = tiny_lm.fresh_lora(0)
    trained = train_ttl(tiny_lm, PROMPTS, settings(ttl_steps=1, learning_rate=1e-4), start, 0)
    for name, tensor in trained.tensors.items():
        change = (tensor - start.tensors[name]).abs().max().item()
        assert change <= 1.001e-4, name  # AdamW's first step is lr times a sign
        assert change > 0.9e-4 if ".lora_B." in name else change == 0, name  # B was zero, so A has no gradient yet


def test_order_of_the_prompts(tiny_lm: LanguageModel) -> None:
    rows = [tiny_lm.encode(prompt) for prompt in PROMPTS]
    with tiny_lm.adapted(tiny_lm.fresh_lora(0)):
        in_order = ttl.plan_training(tiny_lm, rows, settings(ttl_steps=7, batch_size=2, shuffle_data=False), 0)
        shuffled = ttl.plan_training(tiny_lm, rows, settings(ttl_steps=7, batch_size=2), 0)
    assert in_order.schedule == [*range(7), *range(7)]
    first, second = shuffled.schedule[:7], shuffled.schedule[7:]
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second
    assert first != list(range(7))


def test_only_as_many_prompts_are_measured_as_are_needed(tiny_lm: LanguageModel) -> None:
    rows = [tiny_lm.encode(prompt) for prompt in PROMPTS * 10]
    with tiny_lm.adapted(tiny_lm.fresh_lora(0)):
        plan = ttl.plan_training(tiny_lm, rows, settings(ttl_steps=1, batch_size=4), 0)
    assert int(plan.before.isfinite().sum()) == ttl.SCAN
    assert len(plan.schedule) == 4


def test_long_prompts_keep_their_end(tiny_lm: LanguageModel) -> None:
    tail = "the end " * ttl.MAX_TOKENS
    chosen, start = settings(ttl_steps=1, batch_size=1), tiny_lm.fresh_lora(0)
    one = train_ttl(tiny_lm, ["head " * 300 + tail], chosen, start, 0)
    other = train_ttl(tiny_lm, ["another beginning" + tail], chosen, start, 0)
    assert adapter_sha256(one) == adapter_sha256(other)


def test_no_prompt_passes(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ttl, "LOG_P0", math.log(1e6))
    with pytest.raises(NotApplicableError, match=r"largest perplexity \d+\.\d, threshold 1000000\.0"):
        train_ttl(tiny_lm, PROMPTS, settings(), tiny_lm.fresh_lora(0), 0)


@pytest.mark.parametrize("prompts", [[], ["", "A"]])
def test_nothing_to_learn_from(tiny_lm: LanguageModel, prompts: list[str]) -> None:
    with pytest.raises(NotApplicableError, match="two tokens"):
        train_ttl(tiny_lm, prompts, settings(), tiny_lm.fresh_lora(0), 0)


def test_a_rate_that_is_too_high_ends_in_an_error(tiny_lm: LanguageModel) -> None:
    wild = settings().model_copy(update={"learning_rate": 1e30})
    with pytest.raises(NotApplicableError, match=r"learning_rate 1e\+30 is too high"):
        train_ttl(tiny_lm, PROMPTS, wild, tiny_lm.fresh_lora(0), 0)
    assert tiny_lm.fresh_lora(0).tensors.keys()  # the model is undressed again
    train_ttl(tiny_lm, PROMPTS, settings(ttl_steps=1), tiny_lm.fresh_lora(0), 0)


def test_a_broken_start_is_not_trained(tiny_lm: LanguageModel) -> None:
    start = moved(tiny_lm)
    broken = {name: tensor * 1e30 for name, tensor in start.tensors.items()}
    with pytest.raises(NotApplicableError, match="not finite"):
        train_ttl(tiny_lm, PROMPTS, settings(), LoraWeights(4, 8, start.targets, broken, start.base_sha256), 0)
