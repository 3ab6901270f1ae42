"""Tiny random models, one of each family, saved as a person's own folder would be."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

from cao.configuration import Machine
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.profile_settings import ProfileSettings

BASE = {
    **{"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.3},
    **{"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
}
ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
FAMILIES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "Llama": ({}, ATTENTION + MLP),
    "Mistral": ({"sliding_window": 12}, ATTENTION + MLP),
    "Qwen2": ({}, ATTENTION + MLP),
    "Qwen3": ({"head_dim": 8}, ATTENTION + MLP),
    "Gemma2": ({"head_dim": 8, "sliding_window": 12, "final_logit_softcapping": 3.0}, ATTENTION + MLP),
    "Gemma3": ({"head_dim": 8, "sliding_window": 12}, ATTENTION + MLP),
    "Gemma3n": (
        {
            **{"vocab_size_per_layer_input": 400, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0},
            **{
                "laurel_rank": 4,
                "intermediate_size": [64] * 2,
                "activation_sparsity_pattern": [0.0] * 2,
                "head_dim": 8,
            },
        },
        ATTENTION + MLP,
    ),
    "Phi3": ({}, ("o_proj", "down_proj", "gate_up_proj", "qkv_proj")),
    "Olmo2": ({}, ATTENTION + MLP),
    "GPTNeoX": ({}, ("dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value")),
    "Lfm2": ({"layer_types": ["conv", "full_attention"]}, (*ATTENTION[:3], "out_proj", "w1", "w2", "w3")),
    "GPTNeo": (
        {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 12},
        (*ATTENTION[:3], "c_fc", "c_proj", "out_proj"),
    ),
    "Bloom": ({"n_layer": 2, "n_head": 4}, ("dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value")),
    "DeepseekV3": (
        {
            **{"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1},
            **{"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": 8},
            **{"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4},
        },
        ("o_proj", "kv_a_proj_with_mqa", "kv_b_proj", "q_a_proj", "q_b_proj"),
    ),
    "Qwen3Moe": ({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}, ATTENTION),
}
"""Family → what its configuration states besides ``BASE``, and the layers that carry LoRA."""


def save_family(name: str, folder: Path, tokenizer: Path, **changes: object) -> Path:
    """Write a model with random weights and a tokenizer's files into a folder, and return it."""
    config = {"Gemma3": "Gemma3TextConfig", "Gemma3n": "Gemma3nTextConfig"}.get(name, f"{name}Config")
    stated = {**BASE, **FAMILIES.get(name, ({}, ()))[0], **changes}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        cls = "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM"
        getattr(transformers, cls)(getattr(transformers, config)(**stated)).save_pretrained(folder)
    for file in [*tokenizer.glob("*token*"), *tokenizer.glob("chat_template*")]:
        shutil.copy(file, folder / file.name)
    return folder


def family_model(name: str, folder: Path, tokenizer: Path, **changes: object) -> LanguageModel:
    """Return a family's tiny model in float32, loaded as ``--model DIR`` is; it answers by texts."""
    place = save_family(name, folder, tokenizer, **changes)
    settings = ProfileSettings(answer_style="text")
    return load_model(Machine(model=str(place), profile=settings, dtype="float32", offline=True))
