"""Generate: from a task's conditioning tensor to LoRA weights in one forward pass, without gradients.

Source: CAO-LLM §2.2, E.
"""

from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cao.errors import InputError
from cao.model.adapters import LoraWeights, save_adapter
from cao.model.language_model import LanguageModel
from cao.model.profiles import ModelProfile
from cao.types import AdapterRef, Record
from tools import pretrained
from tools.generate_lora.generator import TrainedGenerator, load_generator

__all__ = ["GenerationResult", "Generator", "consolidate_command", "find_generator", "generate_lora"]


class Generator(Protocol):
    """What makes adapters for one base model: a ``TrainedGenerator``, or another thing in a test."""

    def generate(self, conditioning: Tensor, mask: Tensor) -> LoraWeights:
        """Return an adapter.

        Args:
            conditioning: (n, L, C) float32 token states of the frozen encoder, padding zero.
            mask: (n, L) bool, True where there is a token.

        Source: CAO-LLM §2.2, E.
        """
        ...


class GenerationResult(Record):
    """What came of generating.

    Attributes:
        adapter: the generated adapter, or None.
        reason: why there is none, in one sentence; empty where there is one.
        command: what would train the missing generator; empty where there is one.
        caveats: what limits the adapter, in sentences without their full stop.
    """

    adapter: AdapterRef | None
    reason: str = ""
    command: str = ""
    caveats: tuple[str, ...] = ()


def consolidate_command(profile: ModelProfile) -> str:
    """Return the command line that trains generator and aligner for a base model."""
    return f"python -m agent.consolidate --model {profile.name} --preset {profile.preset}"


def find_generator(
    base_sha256: str, task: str | None = None, variant: str = pretrained.AUTO, index: Path | None = None
) -> TrainedGenerator | None:
    """Return the trained generator for a base model and task, or None where none has been trained.

    Args:
        base_sha256: hash of the base model's weights.
        task: the task at hand, None for prompts of no known task.
        variant: ``auto``, or a variant's name (see ``pretrained.choose``).
        index: the list of what is shipped; absent where nothing is.

    Raises:
        InputError: the index or the generator is damaged, or the file is not the one that the index lists.
    """
    index = index or pretrained.index_of()
    chosen = pretrained.choose(base_sha256, task, variant, index)
    if chosen is None:
        return None
    path = pretrained.inside(index, chosen.generator.path)
    generator = load_generator(path, base_sha256)
    if generator.sha256 != chosen.generator.sha256:
        listed = chosen.generator.sha256[:12]
        raise InputError(f"{path}: this is generator {generator.sha256[:12]}, {index.name} lists {listed}")
    return generator


def generate_lora(
    conditioning: Path, *, lm: LanguageModel, store: Path, generator: Generator | None = None
) -> GenerationResult:
    """Generate an adapter from the conditioning tensor of a task.

    Args:
        conditioning: safetensors file with ``conditioning`` (n, L, C) float32 and ``mask`` (n, L) bool.
        lm: the base model.
        store: folder that the adapter is written to.
        generator: what to use in place of the shipped generator for this base model.

    Returns:
        The stored adapter; without a trained generator none, but the reason and the command that trains one.

    Raises:
        InputError: the conditioning file is missing or damaged, or another encoder's.

    Source: CAO-LLM §2.2, E.
    """
    chosen = generator or find_generator(lm.sha256)
    if chosen is None:
        command = consolidate_command(lm.profile)
        reason = f"no trained generator exists for the base model {lm.profile.name}"
        return GenerationResult(adapter=None, reason=reason, command=command)
    states, mask, encoder = _read(conditioning)
    wanted = chosen.identity.encoder_sha256 if isinstance(chosen, TrainedGenerator) else ""
    if encoder and wanted and encoder != wanted:
        raise InputError(f"{conditioning}: made by encoder {encoder[:12]}, the generator reads {wanted[:12]}")
    weights = chosen.generate(states, mask)
    return GenerationResult(adapter=save_adapter(store, weights, lm.source))


def _read(path: Path) -> tuple[Tensor, Tensor, str]:
    """Return a file's token states (n, L, C) and mask (n, L), and its encoder's hash, empty where none is stated."""
    try:
        with safe_open(path, framework="pt") as file:
            encoder = (file.metadata() or {}).get("encoder_sha256", "")
            states, mask = file.get_tensor("conditioning"), file.get_tensor("mask")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: no conditioning tensor ({type(error).__name__})") from None
    sound = states.ndim == 3 and mask.shape == states.shape[:2] and len(states) > 0
    if not sound or (states.dtype, mask.dtype) != (torch.float32, torch.bool) or not bool(states.isfinite().all()):
        raise InputError(f"{path}: a conditioning tensor is (n, L, C) float32 and finite, with a mask (n, L) bool")
    return states, mask, encoder
