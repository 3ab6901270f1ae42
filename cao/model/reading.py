"""A model's folder read by transformers, and refused in one line where it is no model that can be used."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, logging

from cao.errors import InputError
from cao.model.profiles import ModelProfile
from cao.model.profiles.inferred import READING, no_targets, one_line, read_config, read_tokenizer
from cao.types import Dtype

MISFIT = "ignore_mismatched_sizes"
"""What transformers' own message about sizes speaks of."""
SPARE = 2
"""Rows of the embedding for each token of the tokenizer, at most: models pad their vocabulary, but not by as much."""


def read_model(folder: Path, dtype: Dtype, profile: ModelProfile) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a folder's model and tokenizer, the profile's tokens set.

    Args:
        folder: with configuration, tokenizer and safetensors.
        dtype: of the weights in memory.
        profile: for its tokens and the layers that carry LoRA.

    Raises:
        InputError: it cannot be read, its parts do not belong together, or it cannot carry LoRA.
    """
    logging.disable_progress_bar()
    read_config(folder)
    tokenizer = read_tokenizer(folder)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except READING as error:
        misfit = MISFIT in str(error)
        why = "its weights have other sizes than config.json says" if misfit else one_line(error)
        raise InputError(f"{folder}: cannot be loaded ({why})") from None
    _check_weights(folder, model, found["missing_keys"], found["unexpected_keys"])
    _check_vocabulary(folder, model, tokenizer)
    names = {name.rsplit(".", 1)[-1] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    if not names & set(profile.lora_targets):
        raise InputError(no_targets(folder, model, profile.lora_targets))
    _set_tokens(folder, tokenizer, profile)
    return model, tokenizer


def _check_weights(folder: Path, model: PreTrainedModel, missing: set[str], left_out: set[str]) -> None:
    """Raise InputError where the files have not the model's weights, or more than those: it would be another model."""
    if missing:
        raise InputError(
            f"{folder}: its files lack {len(missing)} of the model's weights, {min(missing)} among them, which would "
            "be random numbers; take the whole model's files"
        )
    if left_out:
        raise InputError(
            f"{folder}: a {type(model).__name__}, as config.json says, has no place for {len(left_out)} of its "
            f"weights, {min(left_out)} among them; take the configuration that the weights are of"
        )


def _check_vocabulary(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise InputError where the tokenizer is not the model's."""
    rows, most = len(model.get_input_embeddings().weight), max(tokenizer.get_vocab().values(), default=0) + 1
    if most > rows or rows > SPARE * most:
        raise InputError(
            f"{folder}: the tokenizer has {most} tokens and the model {rows}, so it is another model's; copy the "
            "model's own tokenizer files there"
        )


def _set_tokens(folder: Path, tokenizer: PreTrainedTokenizerBase, profile: ModelProfile) -> None:
    """Set what the profile says of chat template, start and padding; every token it names must be one.

    Raises:
        InputError: the vocabulary has no such token.
    """
    vocabulary = tokenizer.get_vocab()
    for token in filter(None, (profile.start_token, *profile.end_tokens)):
        if token not in vocabulary:
            raise InputError(f"{folder}: its vocabulary has no {token!r}; mend profile.start_token or end_tokens")
    if not profile.chat:
        tokenizer.chat_template = None
    if profile.start_token:
        tokenizer.bos_token = profile.start_token
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
