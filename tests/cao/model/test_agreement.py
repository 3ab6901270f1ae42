"""Every kind of model is computed as its own forward computes it, whatever fast way is taken for it."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from agent.train.policy.fine_tune import branch_tensors, reply_loss
from cao.errors import InputError
from cao.inference.sampling import sample
from cao.inference.scoring import token_logprobs
from cao.model.agreement import longest_row
from cao.model.fast_paths import FastPaths
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model
from cao.model.packed_forward import Packed, Row, Span, packed_states
from cao.model.packing import forget_longest, packed_hidden
from cao.types import LatentSettings
from tests.conftest import TINY
from tools.apply_strategy.latent import optimise_delta_through, prompt_deltas
from tools.apply_strategy.ttl_loss import prompt_losses

ALL, TREES, PLAIN_HEAD = FastPaths(True, True, True), FastPaths(False, True, True), FastPaths(False, False, True)
CAPPED = FastPaths(False, True, False, behind=True)
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
BASE = {
    **{"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.3},
    **{"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
}
KINDS: dict[str, tuple[str, dict[str, Any], FastPaths]] = {
    "llama": ("Llama", {}, ALL),
    "llama, ReLU": ("Llama", {"hidden_act": "relu"}, TREES),
    "llama, GELU": ("Llama", {"hidden_act": "gelu"}, TREES),
    "llama, biases": ("Llama", {"attention_bias": True, "mlp_bias": True}, ALL),
    "llama, wide heads": ("Llama", {"head_dim": 16}, ALL),
    "llama, tied": ("Llama", {"tie_word_embeddings": True}, ALL),
    "llama, dynamic positions": (
        "Llama",
        {"rope_parameters": DYNAMIC, "max_position_embeddings": 24},
        FastPaths(True, True, True, 24),
    ),
    "qwen2": ("Qwen2", {}, ALL),
    "qwen2, window": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 2},
        FastPaths(True, True, True, 12),
    ),
    "qwen2, short window": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
        FastPaths(False, False, True, 4),
    ),
    "qwen3": ("Qwen3", {"head_dim": 8}, TREES),
    "mistral": ("Mistral", {"sliding_window": None}, TREES),
    "mistral, window": ("Mistral", {"sliding_window": 12}, FastPaths(False, True, True, 12)),
    "gemma": ("Gemma", {"head_dim": 8}, TREES),
    "gemma 2": (
        "Gemma2",
        {"head_dim": 8, "sliding_window": 12, "final_logit_softcapping": 3.0},
        FastPaths(False, True, False, 12, behind=True),
    ),
    "gemma 3": ("Gemma3", {"head_dim": 8, "sliding_window": 12}, FastPaths(False, True, True, 12)),
    "granite": ("Granite", {"logits_scaling": 8.0, "attention_multiplier": 0.3, "residual_multiplier": 0.5}, CAPPED),
    "cohere": ("Cohere", {"logit_scale": 0.25}, CAPPED),
    "phi 3": ("Phi3", {}, TREES),
    "phi, head with a bias": ("Phi", {}, CAPPED),
    "olmo 2": ("Olmo2", {}, TREES),
    "smollm 3, layers without positions": ("SmolLM3", {"no_rope_layers": [1, 0, 1, 0]}, TREES),
    "nemotron": ("Nemotron", {}, TREES),
    "opt": ("OPT", {"ffn_dim": 64, "word_embed_proj_dim": 32}, TREES),
    "gpt-oss": (
        "GptOss",
        {"num_local_experts": 4, "head_dim": 8, "sliding_window": 12},
        FastPaths(False, True, True, 12),
    ),
    "llama 4, chunks": (
        "Llama4",
        {"num_local_experts": 2, "head_dim": 8, "attention_chunk_size": 12, "intermediate_size_mlp": 64},
        FastPaths(False, True, True, 12),
    ),
    "mixture of experts": ("Mixtral", {"num_local_experts": 4, "sliding_window": None}, TREES),
    "another mixture": ("Qwen3Moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}, TREES),
}


@pytest.fixture
def load(tiny_model_folder: Path, tmp_path: Path) -> Callable[[str], LanguageModel]:
    """Load one of ``KINDS`` through the real loader, random weights, float32."""

    def loaded(kind: str, dtype: str = "float32") -> LanguageModel:
        name, more, _ = KINDS[kind]
        config = {"Gemma3": "Gemma3TextConfig", "Llama4": "Llama4TextConfig"}.get(name, f"{name}Config")
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            model = getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, config)(**{**BASE, **more}))
            if getattr(model.get_output_embeddings(), "bias", None) is not None:
                torch.nn.init.normal_(model.get_output_embeddings().bias)
        model.save_pretrained(tmp_path)
        for file in tiny_model_folder.glob("*token*"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        return load_language_model(TINY, path=str(tmp_path), dtype=dtype, offline=True)  # type: ignore[arg-type]

    return loaded


ROW = Row(list(range(105, 135)), 20, (Span(20, 20, 25), Span(25, 26, 29), Span(29, 29, 30)))
EVEN = Row(list(range(105, 135)), 20, (Span(20, 20, 25), Span(25, 26, 30)))
"""Of branches that make texts of one length: on it some positions depend."""


def own_logits(lm: LanguageModel, ids: list[int]) -> Tensor:
    forget_longest(lm)
    with torch.no_grad():
        logits: Tensor = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
    return logits


def own_score(lm: LanguageModel, row: Row, span: Span) -> float:
    """The plain forward of one branch alone."""
    ids = row.tokens[: row.prompt] + row.tokens[span.start : span.end]
    logs = own_logits(lm, ids).log_softmax(-1)
    first = row.prompt + span.scored - span.start
    return sum(float(logs[t - 1, ids[t]]) for t in range(first, len(ids)))


def scores(lm: LanguageModel, row: Row) -> list[float]:
    hidden = packed_states(lm, Packed.of([row], "cpu"))
    found = []
    for span in row.spans:
        places = [t - 1 if t > span.start else row.prompt - 1 for t in range(span.scored, span.end)]
        wanted = torch.tensor(row.tokens[span.scored : span.end])
        found.append(float(token_logprobs(lm, hidden[places], wanted).sum()))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_scores_as_its_own_forward_does(kind: str, load: Callable[[str], LanguageModel]) -> None:
    lm = load(kind)
    assert lm.paths == KINDS[kind][2]
    weights = lm.fresh_lora(0)
    for name, tensor in weights.tensors.items():
        if "lora_B" in name:
            tensor.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
    short = Row(ROW.tokens[:9], 4, (Span(4, 4, 7), Span(7, 7, 9)))  # within every window but the shortest
    for worn in (None, weights):
        with lm.adapted(worn), torch.no_grad():
            for row in (EVEN if "dynamic" in kind else ROW, short):
                assert scores(lm, row) == pytest.approx([own_score(lm, row, span) for span in row.spans], abs=1e-3)
            texts = [ROW.tokens[:7], ROW.tokens[:19], ROW.tokens[3:8]]
            own = [own_logits(lm, text) for text in texts]
            torch.testing.assert_close(
                lm.logits(packed_hidden(lm, texts)).float(), torch.cat(own), atol=1e-3, rtol=1e-3
            )
            losses = [
                torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(text[1:]))
                for text, logits in zip(texts, own, strict=True)
            ]
            torch.testing.assert_close(prompt_losses(lm, texts), torch.stack(losses), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["gemma 2", "granite", "phi, head with a bias"])
def test_training_and_latent_descend_through_the_whole_head(kind: str, load: Callable[[str], LanguageModel]) -> None:
    lm = load(kind)
    text = ROW.tokens[:10]
    with lm.adapted(lm.fresh_lora(0), trainable=True) as live:
        loss = torch.nn.functional.cross_entropy(
            lm.model(input_ids=torch.tensor([text])).logits[0, :-1], torch.tensor(text[1:])
        )
        loss.backward()
        own = {name: parameter.grad.clone() for name, parameter in live.items() if parameter.grad is not None}
        weight = 0.1 * torch.exp(loss.detach() - 3).clamp(max=10)  # TTL's S(x)
        for parameter in live.values():
            parameter.grad = None
        prompt_losses(lm, [text], divisor=1)
        for name, gradient in own.items():
            found = live[name].grad
            assert found is not None
            torch.testing.assert_close(found, weight * gradient, atol=1e-4, rtol=1e-2)
    hidden = packed_hidden(lm, [text]).detach()
    delta = torch.zeros(hidden.shape[1], requires_grad=True)
    optimizer = torch.optim.AdamW([delta], lr=0.05, betas=(0.9, 0.999), eps=1e-5, weight_decay=1e-8)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(lm.logits(hidden[:-1] + delta), torch.tensor(text[1:])).backward()
        optimizer.step()
    row = Row(text, len(text))
    found = prompt_deltas(lm, [row], hidden, LatentSettings(slot_steps=3, slot_lr=0.05))
    torch.testing.assert_close(found[0], delta.detach(), atol=1e-4, rtol=1e-3)


def test_latent_through_a_plain_head_is_latent(load: Callable[[str], LanguageModel]) -> None:
    lm = load("llama")
    rows = [Row(ROW.tokens[:9], 9), Row(ROW.tokens[:1], 1)]
    with torch.inference_mode():
        hidden = packed_states(lm, Packed.of(rows, "cpu"))
        fast = prompt_deltas(lm, rows, hidden, LatentSettings(slot_steps=4, slot_lr=0.1))
        lm.paths = PLAIN_HEAD
        targets, mask = torch.tensor([ROW.tokens[1:9]] * 2), torch.tensor([[True] * 8, [False] * 8])
        slow = optimise_delta_through(lm.logits, hidden[None, :8].expand(2, -1, -1), targets, mask, 4, 0.1)
    torch.testing.assert_close(slow, fast, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["qwen2, short window", "gemma 2", "llama"])
def test_the_policy_writes_and_learns_as_the_model_alone_does(kind: str, load: Callable[[str], LanguageModel]) -> None:
    lm = load(kind)
    prompt = "Question: Which of these animals can fly?"
    generator = torch.Generator().manual_seed(0)
    how = {"temperature": 0, "top_k": 0, "top_p": 1.0, "max_tokens": 8, "generator": generator}
    found = sample(lm, prompt, 3, **how)  # type: ignore[arg-type]
    ids = lm.encode(prompt)
    written: list[int] = []
    while len(written) < 8:
        token = int(own_logits(lm, ids + written)[-1].argmax())
        if token == 0:
            break
        written.append(token)
    assert found == [lm.tokenizer.decode(written, skip_special_tokens=True).strip()] * 3

    replies = [[5, 6, 7], [8, 9]]
    losses = []
    for reply in replies:
        logs = own_logits(lm, ids + reply).log_softmax(-1)
        losses += [-logs[len(ids) + i - 1, token] for i, token in enumerate(reply)]
    with torch.no_grad():
        assert float(reply_loss(lm, branch_tensors(ids, replies))) == pytest.approx(
            float(torch.stack(losses).mean()), abs=1e-3
        )


@pytest.mark.parametrize("kind", ["llama", "llama, ReLU", "gemma 3", "granite"])
def test_bfloat16_finds_the_same_paths(kind: str, load: Callable[..., LanguageModel]) -> None:
    assert load(kind, "bfloat16").paths == KINDS[kind][2]


def test_what_is_slower_is_said_once(load: Callable[[str], LanguageModel], capsys: pytest.CaptureFixture[str]) -> None:
    load("llama")
    assert "slower" not in capsys.readouterr().err
    load("gemma 2")
    told = capsys.readouterr().err
    assert told.count("slower") == 1
    assert "12 tokens" in told
    assert "logits" in told


@pytest.mark.parametrize(
    ("name", "layer"),
    [("GPT2", "c_attn"), ("GPTNeoX", "query_key_value"), ("Mamba", "in_proj"), ("Falcon", "dense_4h_to_h")],
)
def test_a_model_without_the_layers_that_carry_lora_is_refused_in_one_line(
    name: str, layer: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cls = "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM"
        getattr(transformers, cls)(getattr(transformers, f"{name}Config")(**BASE)).save_pretrained(tmp_path)
    for file in tiny_model_folder.glob("*token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match=f"none of the linear layers that carry LoRA.*{layer}") as refused:
        load_language_model(TINY, path=str(tmp_path), dtype="float32", offline=True)
    assert "\n" not in str(refused.value)


def test_the_longest_row_follows_the_configuration() -> None:
    assert longest_row(transformers.LlamaConfig()) == 0
    assert longest_row(transformers.Qwen2Config(use_sliding_window=False, sliding_window=4)) == 0
    assert longest_row(SimpleNamespace(sliding_window=64, attention_chunk_size=32)) == 32
    grown = {"rope_type": "longrope", "original_max_position_embeddings": 48}
    assert longest_row(SimpleNamespace(rope_parameters=grown)) == 48
    layered = {"full_attention": {"rope_type": "dynamic"}, "sliding_attention": {"rope_type": "default"}}
    assert longest_row(SimpleNamespace(rope_parameters=layered, max_position_embeddings=96)) == 96
