"""What one model carries at a time, a LoRA adapter or a soft prompt: read, written and named alike."""

import json
from pathlib import Path

from cao.model.adapters import LoraWeights, adapter_sha256, load_adapter, save_adapter
from cao.model.soft_prompt.weights import SoftPrompt, load_soft_prompt, save_soft_prompt, soft_prompt_sha256
from cao.peft_folder import SOFT_PROMPT
from cao.types import CONFIG_FILE, AdapterRef

Carried = LoraWeights | SoftPrompt


def is_soft_prompt(folder: Path) -> bool:
    """Return whether a folder says of itself that it holds a soft prompt; False where it cannot be read."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and config.get("peft_type") == SOFT_PROMPT


def load_carried(folder: Path, base_sha256: str | None = None) -> Carried:
    """Read a LoRA adapter or a soft prompt, refusing what is damaged or belongs to another base model.

    Args:
        folder: a PEFT folder.
        base_sha256: the base model it must belong to; what does not state one passes.

    Raises:
        InputError: missing, truncated, tampered, not finite, odd shapes, or another base model.
    """
    return (load_soft_prompt if is_soft_prompt(folder) else load_adapter)(folder, base_sha256)


def save_carried(store: Path, weights: Carried, base_name: str) -> AdapterRef:
    """Write a LoRA adapter or a soft prompt to ``store/<sha256>/`` in one step."""
    if isinstance(weights, SoftPrompt):
        return save_soft_prompt(store, weights, base_name)
    return save_adapter(store, weights, base_name)


def carried_sha256(weights: Carried) -> str:
    """Return the hash that names a LoRA adapter or a soft prompt."""
    return soft_prompt_sha256(weights) if isinstance(weights, SoftPrompt) else adapter_sha256(weights)


def reference(path: str, weights: Carried, base_sha256: str) -> AdapterRef:
    """Return what refers to a folder that holds a LoRA adapter or a soft prompt.

    Args:
        path: the folder.
        weights: what it holds.
        base_sha256: the base model.
    """
    shape = {"rank": 0, "virtual_tokens": weights.tokens} if isinstance(weights, SoftPrompt) else {"rank": weights.rank}
    return AdapterRef(path=path, sha256=carried_sha256(weights), base_sha256=base_sha256, **shape)
