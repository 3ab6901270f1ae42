"""An adapter as one GGUF file, which llama.cpp and what is built on it put on the base model's GGUF file.

The format is llama.cpp's: the type ``adapter``, the scale α, and for each module ``<its GGUF name>.lora_a`` (r, in)
and ``.lora_b`` (out, r), float32. llama.cpp computes W x + (α/r) B A x as PEFT does.
"""

from pathlib import Path

import numpy as np
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFWriter, Keys, get_tensor_name_map
from transformers import PretrainedConfig

from cao.errors import InputError
from cao.model.adapters import LoraWeights, load_adapter
from cao.model.language_model import LanguageModel
from cao.peft_folder import PREFIX

GGUF_FILE = "adapter.gguf"
_ARCHITECTURES = {
    "llama": MODEL_ARCH.LLAMA,
    "mistral": MODEL_ARCH.LLAMA,
    "qwen2": MODEL_ARCH.QWEN2,
    "qwen3": MODEL_ARCH.QWEN3,
    "gemma2": MODEL_ARCH.GEMMA2,
    "gemma3_text": MODEL_ARCH.GEMMA3,
}
"""The library's name of an architecture to GGUF's. Others rearrange weights in ways that are not written down here."""


def write_gguf(lm: LanguageModel, folder: Path) -> None:
    """Write the folder's adapter as a GGUF file beside it.

    Args:
        lm: the base model.
        folder: a PEFT folder.

    Raises:
        InputError: the base model is of an architecture whose names are not known, or the adapter is a DoRA adapter,
            which llama.cpp does not read.
    """
    weights = load_adapter(folder, lm.sha256)
    if weights.dora:
        raise InputError("--gguf: llama.cpp reads LoRA alone, and this adapter is DoRA; --merge writes merged weights")
    write_adapter(weights, lm.model.config, folder / GGUF_FILE)


def write_adapter(weights: LoraWeights, config: PretrainedConfig, path: Path) -> None:
    """Write an adapter as a GGUF file.

    Args:
        weights: the adapter.
        config: of its base model.
        path: the file.

    Raises:
        InputError: the architecture, or a module's name in it, is not known.
    """
    architecture = _ARCHITECTURES.get(config.model_type)
    if architecture is None:
        known = ", ".join(_ARCHITECTURES)
        raise InputError(f"--gguf: no GGUF names are known for a {config.model_type} model (known: {known})")
    names = get_tensor_name_map(architecture, config.num_hidden_layers)
    writer = GGUFWriter(path, MODEL_ARCH_NAMES[architecture])
    writer.add_type("adapter")
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, float(weights.alpha))
    for module in weights.modules():
        name = names.get_name(module.removeprefix(PREFIX))
        if name is None:
            raise InputError(f"--gguf: {module} has no name in a GGUF file")
        lora_a, lora_b = (weights.tensors[f"{module}.lora_{side}.weight"].numpy() for side in "AB")
        if architecture is MODEL_ARCH.LLAMA:
            lora_b = _rotary_pairs(lora_b, module, config)
        writer.add_tensor(f"{name}.weight.lora_a", np.ascontiguousarray(lora_a))
        writer.add_tensor(f"{name}.weight.lora_b", np.ascontiguousarray(lora_b))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _rotary_pairs(lora_b: np.ndarray, module: str, config: PretrainedConfig) -> np.ndarray:
    """Return B with the rows of queries and keys in GGUF's order for Llama.

    There the two numbers that rotary embedding turns stand beside each other; in transformers they are half a head
    apart.

    Args:
        lora_b: (out, r).
        module: whose B it is.
        config: of the base model.
    """
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(module.split(".")[-1])
    if heads is None:
        return lora_b
    return lora_b.reshape(heads, 2, -1, lora_b.shape[1]).swapaxes(1, 2).reshape(lora_b.shape)
