"""Greedy generation against a plain loop that reads the whole text again for every token."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cao.errors import NotApplicableError, UnavailableError
from cao.inference import generation
from cao.inference.generation import Generated, generate
from cao.inference.hidden_cache import hidden_states
from cao.inference.row_batch import RowBatch
from cao.inference.scoring import plan_row
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row
from cao.types import Branch, LatentSettings, Query
from tests.cao.model.families import family_model
from tools.apply_strategy.latent import moving, prompt_deltas

PROMPTS = ["Question: Which of these animals can fly?\nAnswer:", "Tom", "Why do plants need the sun? Because"]


@pytest.fixture
def exact_lm(tiny_lm: LanguageModel) -> LanguageModel:
    tiny_lm.model.float()
    return tiny_lm


@torch.no_grad()
def plain(lm: LanguageModel, prompt: str, n: int, delta: Tensor | float = 0.0) -> tuple[list[int], float]:
    """No batch, no cache, no padding, no stop."""
    tokens, total = lm.encode(prompt), 0.0
    start = len(tokens)
    for _ in range(n):
        hidden = lm.model.model(torch.tensor([tokens])).last_hidden_state[0, -1]
        logprobs = lm.model.lm_head(hidden + delta).log_softmax(-1)
        tokens.append(int(logprobs.argmax()))
        total += float(logprobs.max())
        if tokens[-1] == lm.tokenizer.eos_token_id:
            break
    return tokens[start:], total


@pytest.mark.parametrize("budget", [1, 8192])
def test_a_batch_writes_what_each_prompt_writes_alone(exact_lm: LanguageModel, budget: int) -> None:
    answers = generate(exact_lm, PROMPTS, max_new_tokens=12, token_budget=budget)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        tokens, total = plain(exact_lm, prompt, 12)
        assert answer.text == exact_lm.tokenizer.decode(tokens, skip_special_tokens=True)
        assert answer.tokens == len(tokens)
        assert answer.logprob == pytest.approx(total, abs=1e-3)
        assert answer.mean_prob == pytest.approx(math.exp(total / len(tokens)), abs=1e-4)


def test_where_memory_runs_out_answers_are_written_in_smaller_batches(
    exact_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, sizes, told = generate(exact_lm, PROMPTS, max_new_tokens=6), list[int](), list[str]()

    class Scarce(RowBatch):
        most = 1

        def __init__(self, lm: LanguageModel, rows: list[Row]) -> None:
            sizes.append(len(rows))
            if len(rows) > self.most:
                raise torch.OutOfMemoryError
            super().__init__(lm, rows)

    monkeypatch.setattr(generation, "RowBatch", Scarce)
    found = generate(exact_lm, PROMPTS, max_new_tokens=6, progress=lambda label, done, total: told.append(label))
    assert [one.text for one in found] == [one.text for one in expected]
    assert sizes == [3, 1, 1, 1]
    assert sum("out of memory" in label for label in told) == 1
    monkeypatch.setattr(Scarce, "most", 0)
    with pytest.raises(UnavailableError, match="one question of"):
        generate(exact_lm, PROMPTS, max_new_tokens=6)


def test_rows_that_stop_early_leave_the_others_as_they_are(exact_lm: LanguageModel) -> None:
    whole = generate(exact_lm, PROMPTS, max_new_tokens=12)
    stop = whole[0].text[2:4]
    stopped = generate(exact_lm, PROMPTS, max_new_tokens=12, stop=[stop, "never written"])
    for before, after in zip(whole, stopped, strict=True):
        assert after.text == before.text.split(stop)[0]
        assert after.tokens <= before.tokens
    assert stopped[0].tokens < 12


@pytest.mark.parametrize("name", ["Lfm2", "FalconH1"])
def test_rows_leave_a_model_that_carries_a_state(name: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    stated = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
    lm = family_model(name, tmp_path, tiny_model_folder, **(stated if name == "FalconH1" else {}))
    alone = [generate(lm, [prompt], max_new_tokens=12)[0] for prompt in PROMPTS]
    stop = alone[0].text[2:4]
    together = generate(lm, PROMPTS, max_new_tokens=12, stop=[stop])
    assert [answer.text for answer in together] == [answer.text.split(stop)[0] for answer in alone]
    assert len({answer.tokens for answer in together}) > 1


def test_the_end_token_ends_a_row_and_is_not_in_its_text(exact_lm: LanguageModel) -> None:
    first = plain(exact_lm, PROMPTS[0], 1)[0][0]
    exact_lm.model.generation_config.eos_token_id = [first]
    answer, other = generate(exact_lm, PROMPTS[:2], max_new_tokens=6)
    assert answer.tokens == 1
    assert other.tokens > 1


def test_latent_decodes_every_row_with_its_own_delta(exact_lm: LanguageModel) -> None:
    latent = LatentSettings(slot_steps=5, slot_lr=0.3)
    answers = generate(exact_lm, PROMPTS, max_new_tokens=8, move=moving(latent), stop=["zzzz"])
    changed = 0
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        row = plan_row(exact_lm, Query(prefix=prompt, branches=(Branch(scored=" x"),)))
        delta = prompt_deltas(exact_lm, [row], hidden_states(exact_lm, [row]), latent)[0]
        tokens, total = plain(exact_lm, prompt, 8, delta)
        assert answer.text == exact_lm.tokenizer.decode(tokens, skip_special_tokens=True)
        assert answer.logprob == pytest.approx(total, abs=1e-3)
        changed += tokens != plain(exact_lm, prompt, 8)[0]
    assert changed
    stop = answers[0].text[:2]  # the longest prompt is the batch's first row: the others move up when it leaves
    for before, after in zip(
        answers, generate(exact_lm, PROMPTS, max_new_tokens=8, move=moving(latent), stop=[stop]), strict=True
    ):
        assert after.text == before.text.split(stop)[0]


def test_the_models_own_sampling_defaults_are_not_used(exact_lm: LanguageModel) -> None:
    before = generate(exact_lm, PROMPTS, max_new_tokens=8)
    exact_lm.model.generation_config.repetition_penalty = 5.0
    exact_lm.model.generation_config.do_sample = True
    assert generate(exact_lm, PROMPTS, max_new_tokens=8) == before


def test_a_prompt_that_is_too_long_keeps_its_end_and_an_empty_one_is_written_on(
    exact_lm: LanguageModel,
) -> None:
    exact_lm.model.config.max_position_embeddings = 30
    long, empty = generate(exact_lm, ["Why do plants need the sun? " * 30, ""], max_new_tokens=5)
    assert long.cut > 0
    kept = exact_lm.encode("Why do plants need the sun? " * 30)[long.cut :]
    assert len(kept) == 25
    expected = plain(exact_lm, exact_lm.tokenizer.decode(kept), 5)[0]
    assert long.text == exact_lm.tokenizer.decode(expected, skip_special_tokens=True)
    assert empty.tokens >= 1


def test_scores_that_are_not_finite_are_an_error(exact_lm: LanguageModel) -> None:
    exact_lm.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(NotApplicableError, match="not finite"):
        generate(exact_lm, PROMPTS, max_new_tokens=2)


def test_mean_probability_by_hand() -> None:
    assert Generated("x", math.log(0.5) + math.log(0.125), 2).mean_prob == pytest.approx(0.25)
