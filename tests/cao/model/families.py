"""Tiny random models, one of each family, saved as a person's own folder would be."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

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
    "Phi3": ({}, ("o_proj", "down_proj", "gate_up_proj", "qkv_proj")),
    "Olmo2": ({}, ATTENTION + MLP),
    "GPTNeoX": ({}, ("dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value")),
    "Qwen3Moe": ({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}, ATTENTION),
}
"""Family → what its configuration states besides ``BASE``, and the layers that carry LoRA."""


def save_family(name: str, folder: Path, tokenizer: Path, **changes: object) -> Path:
    """Write a model with random weights and a tokenizer's files into a folder, and return it."""
    config = {"Gemma3": "Gemma3TextConfig"}.get(name, f"{name}Config")
    stated = {**BASE, **FAMILIES.get(name, ({}, ()))[0], **changes}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        cls = "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM"
        getattr(transformers, cls)(getattr(transformers, config)(**stated)).save_pretrained(folder)
    for file in [*tokenizer.glob("*token*"), *tokenizer.glob("chat_template*")]:
        shutil.copy(file, folder / file.name)
    return folder
