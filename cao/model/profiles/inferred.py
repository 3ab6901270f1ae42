"""A profile inferred from a model's folder: its configuration and its tokenizer are read, its weights are not."""

import json
import textwrap
from collections.abc import Collection
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from cao.errors import InputError
from cao.model.profiles import ModelProfile, rank_and_alpha, short_name
from cao.model.profiles.lora_targets import find_targets, lora_shapes

PRESET = "small"
"""The consolidation preset of a model that has none of its own."""
READING = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, NotImplementedError, ImportError),
    *(ArithmeticError, StrictDataclassError, SafetensorError),
)
"""What the libraries raise where a model's folder is none that they can read."""


def infer_profile(reference: str, folder: Path) -> ModelProfile:
    """Return the profile of a model that has no file of its own.

    Args:
        reference: what ``--model`` was given: a folder's or file's path, or a hub id.
        folder: with its configuration and tokenizer.

    Raises:
        InputError: the folder holds no model that can be read, or none that can carry LoRA.
    """
    config = read_config(folder)
    model = _skeleton(folder, config)
    targets = find_targets(model)
    if not targets:
        raise InputError(no_targets(folder, model, ()))
    tokenizer = read_tokenizer(folder)
    rank, alpha = rank_and_alpha(int(config.get_text_config().hidden_size))
    head = model.get_output_embeddings().weight.numel()
    whole = sum(each.numel() for each in model.parameters())  # a tied head counts once
    embedded = model.get_input_embeddings().weight.numel()
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    return ModelProfile(
        name=short_name(reference),
        source=reference,
        answer_style="text",
        lora_rank=rank,
        lora_alpha=alpha,
        preset=PRESET,
        lora_targets=targets,
        parameters=whole,
        trunk=whole - embedded - (0 if tied else head),
        head=head,
        adapter=sum(sum(shape) for shape in lora_shapes(model, targets).values()),
        chat=bool(tokenizer.chat_template),
        start_token=tokenizer.bos_token,
        end_tokens=_ends(folder, tokenizer),
        measure_style=True,
        architecture=type(model).__name__,
    )


def described_shapes(folder: Path, targets: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return the shapes of the matrices that carry LoRA in a model that is not loaded, as ``lora_shapes`` does."""
    return lora_shapes(_skeleton(folder, read_config(folder)), targets)


def read_config(folder: Path) -> PretrainedConfig:
    """Return a model folder's configuration; no code that lies beside it is run.

    Raises:
        InputError: there is none that can be read, or the model needs such code.
    """
    path = folder / "config.json"
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        kind, own = stated.get("model_type"), stated.get("auto_map")
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (OSError, ValueError, AttributeError, RecursionError):
        raise InputError(f"{path}: missing or not a model's configuration; give a transformers folder") from None
    if own and kind not in CONFIG_MAPPING:
        raise InputError(
            f"{folder}: needs code of its own (trust_remote_code), which is never run here; take a model of an "
            "architecture that transformers has, or a version of this one converted to it"
        )
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except READING as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)})") from None


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return a model folder's tokenizer.

    Raises:
        InputError: there is none that can be read.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except READING as error:
        raise InputError(
            f"{folder}: its tokenizer cannot be read ({one_line(error)}); copy the model's tokenizer files there"
        ) from None


def no_targets(folder: Path, model: nn.Module, wanted: tuple[str, ...]) -> str:
    """Return what to say where no layer can carry LoRA.

    Args:
        folder: the model's.
        model: in which they were looked for.
        wanted: the names looked for, none where any would have done.
    """
    weighted = (name for name, part in model.named_modules() if getattr(part, "weight", None) is not None)
    parts = {name.rsplit(".", 1)[-1] for name in weighted}
    there = find_targets(model)
    do = "name linear ones with" if not there else "give the folder itself as --model, or"
    names = ", ".join(f'"{name}"' for name in there) or '"NAME"'
    sought = f" ({', '.join(wanted)})" if wanted else ""
    return (
        f"{folder}: {type(model).__name__} has none of the linear layers that carry LoRA{sought}; "
        f"its layers are {', '.join(sorted(parts))}; {do} "
        f"--set 'profile.lora_targets=[{names}]'"
    )


def _skeleton(folder: Path, config: PretrainedConfig) -> PreTrainedModel:
    """Return the model without its weights."""
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        model.tie_weights()
        return model
    except READING as error:
        raise InputError(f"{folder}: no causal language model ({one_line(error)})") from None


def _ends(folder: Path, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the texts of the tokens that end a text: the generation's, then the tokenizer's."""
    try:
        stated = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    except READING:
        stated = None
    several = stated if isinstance(stated, list) else [stated]
    texts = [tokenizer.convert_ids_to_tokens(token) for token in several if isinstance(token, int)]
    return tuple(dict.fromkeys(text for text in [*texts, tokenizer.eos_token] if text))


def one_line(error: BaseException) -> str:
    """Return what a library says in one line of bounded length."""
    return textwrap.shorten(str(error), 300) or type(error).__name__
