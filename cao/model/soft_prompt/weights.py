"""A soft prompt in memory and on disk: PEFT's format of prompt tuning, checked as LoRA adapters are.

Source: Lester et al. 2021, The Power of Scale for Parameter-Efficient Prompt Tuning; the files are PEFT's.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from cao.errors import InputError
from cao.peft_folder import SOFT_PROMPT, AdapterHeader, read_weights, write_folder
from cao.sealed import content_sha256, not_finite
from cao.types import CONFIG_FILE, MOST_VIRTUAL_TOKENS, WEIGHTS_FILE, AdapterRef

EMBEDDINGS = "prompt_embeddings"
"""What PEFT calls the one tensor of its files."""
WIDEST = 2**16
"""Numbers of an embedding that a configuration may state."""


@dataclass(frozen=True)
class SoftPrompt:
    """The embeddings of n virtual tokens.

    Attributes:
        tensors: ``prompt_embeddings`` → (n, d), float32.
        base_sha256: the base model that it belongs to.
        provenance: how it was made, strings only.
    """

    tensors: dict[str, Tensor]
    base_sha256: str
    provenance: dict[str, str] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """How many virtual tokens it has, n."""
        return self.tensors[EMBEDDINGS].shape[0]

    @property
    def width(self) -> int:
        """Numbers of an embedding, d."""
        return self.tensors[EMBEDDINGS].shape[1]


def soft_prompt_sha256(weights: SoftPrompt) -> str:
    """Return the hash that names a soft prompt: its embeddings and the base model's hash."""
    tensors = {name: tensor.to("cpu", torch.float32) for name, tensor in weights.tensors.items()}
    return content_sha256({"peft": SOFT_PROMPT, "base": weights.base_sha256}, tensors, "{name}{shape}")


def save_soft_prompt(store: Path, weights: SoftPrompt, base_name: str) -> AdapterRef:
    """Write a soft prompt to ``store/<sha256>/`` in one step; an equal one that is there already, and sound, is kept.

    Args:
        store: the folder of adapters, made if absent.
        weights: what to write.
        base_name: hub id or folder of the base model, from which PEFT loads it.

    Raises:
        ValueError: a number is not finite; such a soft prompt is never written.
    """
    bad = not_finite(weights.tensors)
    if bad:
        raise ValueError(f"refusing to write a soft prompt with non-finite values in {bad}")
    weights = replace(weights, tensors={name: tensor.to(torch.float32) for name, tensor in weights.tensors.items()})
    sha256 = soft_prompt_sha256(weights)
    config = {
        "peft_type": SOFT_PROMPT,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "num_virtual_tokens": weights.tokens,
        "token_dim": weights.width,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
        "inference_mode": True,
    }
    header = AdapterHeader(base_sha256=weights.base_sha256, sha256=sha256, provenance=weights.provenance)
    target = write_folder(
        store, header, config, weights.tensors, lambda folder: soft_prompt_sha256(load_soft_prompt(folder))
    )
    base, tokens = weights.base_sha256, weights.tokens
    return AdapterRef(path=str(target), sha256=sha256, base_sha256=base, rank=0, virtual_tokens=tokens)


def load_soft_prompt(folder: Path, base_sha256: str | None = None) -> SoftPrompt:
    """Read a soft prompt, refusing what is damaged or belongs to another base model.

    Args:
        folder: a PEFT folder.
        base_sha256: the base model it must belong to; soft prompts that do not state one pass.

    Raises:
        InputError: missing, truncated, tampered, not finite, of another shape than stated, too many tokens, or another
            base model.
    """
    tokens, width = _read_config(folder)
    path = folder / WEIGHTS_FILE
    header, tensors = read_weights(folder)
    rows = tensors.get(EMBEDDINGS, torch.empty(0))
    if len(tensors) != 1 or rows.ndim != 2 or rows.shape != (tokens, width or rows.shape[1]):
        stated = f"{tokens} x {width or 'd'}"
        raise InputError(f"{path}: is not the one tensor {EMBEDDINGS} of {stated} numbers that {CONFIG_FILE} states")
    if not_finite(tensors):
        raise InputError(f"{path}: {EMBEDDINGS} holds values that are not finite")
    weights = SoftPrompt(tensors, header.base_for(folder, base_sha256), header.provenance)
    header.check(folder, soft_prompt_sha256(weights))
    return weights


def _read_config(folder: Path) -> tuple[int, int | None]:
    """Return how many virtual tokens a configuration states, and how wide they are where it says so."""
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, tokens = config["peft_type"], config["num_virtual_tokens"]
        width, task, parts = config.get("token_dim"), config.get("task_type"), config.get("num_transformer_submodules")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder}: no {CONFIG_FILE}; a soft prompt is a folder in PEFT format") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a configuration of prompt tuning ({error})") from None
    if kind != SOFT_PROMPT or task not in (None, "CAUSAL_LM") or parts not in (None, 1):
        raise InputError(f"{path}: only {SOFT_PROMPT} of a causal language model is read")
    if type(tokens) is not int or not 1 <= tokens <= MOST_VIRTUAL_TOKENS:
        shown = tokens if type(tokens) is int else type(tokens).__name__
        raise InputError(f"{path}: num_virtual_tokens lies between 1 and {MOST_VIRTUAL_TOKENS}, and is not {shown}")
    if width is not None and (type(width) is not int or not 1 <= width <= WIDEST):
        raise InputError(f"{path}: token_dim is no width of an embedding")
    return tokens, width
