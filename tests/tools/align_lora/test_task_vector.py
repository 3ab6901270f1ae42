"""Task vectors: against one prompt at a time, what is read of a prompt, and what there is no vector of."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cao.errors import InputError, NotApplicableError
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from tools.align_lora import task_vector as module
from tools.align_lora.task_vector import MAX_TOKENS, mean_state, task_vector

PROMPTS = [f"Question: How many of the {i} apples are {'very ' * i}red?\nAnswer:" for i in range(7)]


@pytest.fixture
def lm(tiny_lm: LanguageModel) -> LanguageModel:
    """The tiny model in float32, so that comparisons are not about rounding."""
    tiny_lm.model = tiny_lm.model.float()
    return tiny_lm


def moved(lm: LanguageModel) -> LoraWeights:
    weights, generator = lm.fresh_lora(1), torch.Generator().manual_seed(1)
    tensors = {n: t + 0.05 * torch.randn(t.shape, generator=generator) for n, t in weights.tensors.items()}
    return replace(weights, tensors=tensors)


def plain_mean(lm: LanguageModel, prompts: list[str]) -> Tensor:
    """One prompt a forward, all hidden states, as transformers gives them."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([lm.encode(prompt)])
        with torch.no_grad():
            found.append(lm.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0].mean(0))
    return torch.stack(found).mean(0)


@pytest.mark.parametrize("piece_tokens", [1, 100, 2048])
def test_it_is_one_prompt_at_a_time(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, piece_tokens: int) -> None:
    monkeypatch.setattr(module, "PIECE_TOKENS", piece_tokens)
    adapter = moved(lm)
    before = plain_mean(lm, PROMPTS)
    with lm.adapted(adapter):
        after = plain_mean(lm, PROMPTS)
    found = task_vector(lm, adapter, PROMPTS, 99)
    assert found.dtype == torch.float32
    assert found.shape == (32,)
    assert found.abs().max() > 0.01
    assert torch.allclose(found, after - before, atol=1e-5)


def test_bf16_is_close_to_float32(tiny_lm: LanguageModel) -> None:
    adapter = moved(tiny_lm)
    half = task_vector(tiny_lm, adapter, PROMPTS, 99)
    tiny_lm.model = tiny_lm.model.float()
    whole = task_vector(tiny_lm, adapter, PROMPTS, 99)
    assert torch.nn.functional.cosine_similarity(half, whole, dim=0) > 0.99


def test_an_adapter_without_effect_has_the_zero_vector(lm: LanguageModel) -> None:
    assert not task_vector(lm, lm.fresh_lora(0), PROMPTS, 99).any()


def test_only_the_first_prompts_are_read(lm: LanguageModel) -> None:
    adapter = moved(lm)
    assert torch.equal(task_vector(lm, adapter, PROMPTS, 3), task_vector(lm, adapter, PROMPTS[:3], 99))
    assert not torch.equal(task_vector(lm, adapter, PROMPTS, 3), task_vector(lm, adapter, PROMPTS, 4))


def test_long_prompts_keep_their_end(lm: LanguageModel) -> None:
    tail = " the end" * MAX_TOKENS
    one, other = (mean_state(lm, [head + tail], 1) for head in ("a head", "another beginning of the prompt"))
    assert torch.equal(one, other)


def test_a_known_base_state_is_taken(lm: LanguageModel) -> None:
    adapter, base = moved(lm), mean_state(lm, PROMPTS, 99)
    assert torch.equal(task_vector(lm, adapter, PROMPTS, 99, base=base), task_vector(lm, adapter, PROMPTS, 99))


def test_empty_prompts_are_passed_over(lm: LanguageModel) -> None:
    adapter = moved(lm)
    one, other = task_vector(lm, adapter, ["", *PROMPTS, ""], 99), task_vector(lm, adapter, PROMPTS, 99)
    assert torch.equal(one, other)
    for nothing in ([], ["", ""]):
        with pytest.raises(NotApplicableError, match="no prompt has a token"):
            task_vector(lm, adapter, nothing, 99)


def test_another_models_adapter_is_refused_and_the_model_left_alone(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="base model"):
        task_vector(lm, replace(moved(lm), base_sha256="f" * 64), PROMPTS, 99)
    assert not any("lora" in name for name, _ in lm.model.named_modules())


def test_the_vector_may_be_trained_with(lm: LanguageModel) -> None:
    vector, weight = task_vector(lm, moved(lm), PROMPTS, 2), torch.ones(32, requires_grad=True)
    (vector * weight).sum().backward()  # an inference tensor could not be saved for this
    assert torch.equal(weight.grad, vector)
