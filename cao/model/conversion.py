"""A GGUF file as a transformers folder: SmolLM2's kind here, byte for byte as transformers makes it, others by that.

transformers parses a GGUF file three times and asks for the names of all tensors once a module, so what every first run
needs is read here.
"""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from pathlib import Path

import torch
import transformers
from gguf import GGUFReader, ReaderTensor, dequantize
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

from cao.progress import say

_CONFIG = {
    "vocab_size": "llama.vocab_size",
    "hidden_size": "llama.embedding_length",
    "intermediate_size": "llama.feed_forward_length",
    "num_hidden_layers": "llama.block_count",
    "num_attention_heads": "llama.attention.head_count",
    "num_key_value_heads": "llama.attention.head_count_kv",
    "head_dim": "llama.rope.dimension_count",
    "max_position_embeddings": "llama.context_length",
    "rms_norm_eps": "llama.attention.layer_norm_rms_epsilon",
    "rope_theta": "llama.rope.freq_base",
    "bos_token_id": "tokenizer.ggml.bos_token_id",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "pad_token_id": "tokenizer.ggml.padding_token_id",
    "unk_token_id": "tokenizer.ggml.unknown_token_id",
    "_model_name_or_path": "general.name",
}
"""Configuration key to GGUF field."""

_TOP = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""GGUF's name of a tensor in a block to that in a layer."""

FREE = ("apache-2.0", "bsd-3-clause", "mit")
"""Licences that ask nothing of who uses a model."""
TERMS = {"gemma": "https://ai.google.dev/gemma/terms"}
"""Where terms can be read, of licences for which files state no address."""


def convert(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file as configuration, bf16 safetensors and tokenizer.

    Args:
        gguf: the file.
        folder: where to write.

    Raises:
        ValueError: the file holds no model that transformers can read, or not all of its weights.
    """
    reader = GGUFReader(gguf)
    if terms := _terms(reader):
        say(f"{gguf.name}: its weights are under {terms}; whoever uses or passes on them, or adapters, is bound by it")
    if _is_plain_llama(reader):
        _convert_here(reader, gguf, folder)
    else:
        _convert_by_library(gguf, folder)


def _is_plain_llama(reader: GGUFReader) -> bool:
    """Return whether a file is of SmolLM2's kind: a Llama with tied embeddings, every key of which is stated."""
    field = reader.fields.get("general.architecture")
    stated = reader.fields.keys() >= set(_CONFIG.values())
    return stated and field is not None and field.contents() == "llama" and all(map(_known, reader.tensors))


def _terms(reader: GGUFReader) -> str:
    """Return the licence that a file states, with where to read it; empty where it asks nothing, or states none."""
    keys = ("general.license", "general.license.name", "general.license.link")
    stated = [str(reader.fields[key].contents()) if key in reader.fields else "" for key in keys]
    short, name, link = ("".join(filter(str.isprintable, each))[:200] for each in stated)  # a file may say anything
    if not (name or short) or short.lower() in FREE:
        return ""
    return ", ".join(filter(None, (f"the licence {name or short!r}", link or TERMS.get(short.lower(), ""))))


def _known(tensor: ReaderTensor) -> bool:
    block, _, rest = tensor.name.removeprefix("blk.").partition(".")
    return tensor.name in _TOP or (block.isdecimal() and rest in {f"{part}.weight" for part in _LAYER})


def _convert_here(reader: GGUFReader, gguf: Path, folder: Path) -> None:
    fields = reader.fields
    config = LlamaConfig(
        **{key: fields[name].contents() for key, name in _CONFIG.items()},
        tie_word_embeddings=True,
        architectures=["LlamaForCausalLM"],
        dtype=torch.bfloat16,
    )
    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)
    weights = dict(_weights(reader.tensors, config))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    PreTrainedTokenizerFast.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def _convert_by_library(gguf: Path, folder: Path) -> None:
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name, "local_files_only": True}
    packs = getattr(transformers, "GgufConfig", None)  # later versions leave the weights packed, unless they are told
    unpacked = {"quantization_config": packs(dequantize=True)} if packs else {}
    with redirect_stderr(io.StringIO()):  # bars
        model, found = transformers.AutoModelForCausalLM.from_pretrained(
            **where, **unpacked, dtype=torch.bfloat16, output_loading_info=True
        )
    if found["missing_keys"]:  # they would be random numbers
        raise ValueError(f"{len(found['missing_keys'])} weights are missing, {min(found['missing_keys'])} among them")
    model.hf_quantizer = None  # save_pretrained refuses a model that it takes for quantised
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(**where).save_pretrained(folder)


def _weights(tensors: list[ReaderTensor], config: LlamaConfig) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor's name and values in bf16, de-quantised in threads: NumPy holds no lock meanwhile."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}

    def weight(tensor: ReaderTensor) -> tuple[str, Tensor]:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()).to(torch.bfloat16)
        if tensor.name in _TOP:
            return _TOP[tensor.name], values
        _, layer, part, suffix = tensor.name.split(".")
        if part in heads:  # GGUF keeps the two numbers that rotary embedding turns beside each other
            values = values.view(heads[part], -1, 2, values.shape[1]).transpose(1, 2).reshape(values.shape)
        return f"model.layers.{layer}.{_LAYER[part]}.{suffix}", values

    with ThreadPoolExecutor() as pool:
        yield from pool.map(weight, tensors)
