"""LoRA adapters in memory and on disk: PEFT format, safetensors only, content-addressed, written in one step.

A stored adapter is a folder ``<store>/<sha256>/`` with ``adapter_config.json`` and ``adapter_model.safetensors``.
The hash covers the tensors and the canonical configuration; the base model's hash and the provenance stand in the
safetensors header, because two base models of one shape would otherwise take each other's adapters silently.
"""

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from cao.errors import InputError
from cao.peft_folder import SOFT_PROMPT, AdapterHeader, read_weights, write_folder
from cao.sealed import content_sha256, not_finite
from cao.types import CONFIG_FILE, WEIGHTS_FILE, AdapterRef


class NotPlainError(InputError):
    """A LoRA adapter that only ``cao.model.start_adapter`` may understand: other scaling, names or choice of layers."""


_CHANGING = (
    *("rank_pattern", "alpha_pattern", "bias", "lora_bias", "modules_to_save", "layers_to_transform"),
    *("layer_replication", "fan_in_fan_out", "use_rslora", "alora_invocation_tokens"),
)
"""Keys of PEFT's configuration that change the arithmetic; an adapter that sets one is refused."""

MAGNITUDE = ".lora_magnitude_vector"
"""What PEFT calls DoRA's magnitudes in its files, behind the module's name."""


@dataclass(frozen=True)
class LoraWeights:
    """One LoRA adapter, or a DoRA adapter where each module has magnitudes, too.

    Attributes:
        rank: r.
        alpha: α; ΔW = (α/r)·B·A.
        targets: names of the adapted linear modules, sorted.
        tensors: PEFT names (``base_model.model.<module>.lora_A.weight``) to float32 tensors; A is (r, in), B (out, r);
            with DoRA ``<module>.lora_magnitude_vector`` (out,) besides.
        base_sha256: the base model that it belongs to.
        provenance: how it was made, strings only.
    """

    rank: int
    alpha: int
    targets: tuple[str, ...]
    tensors: dict[str, Tensor]
    base_sha256: str
    provenance: dict[str, str] = field(default_factory=dict)

    @property
    def dora(self) -> bool:
        """Whether it is a DoRA adapter: W' = m·(W + ΔW)/‖W + ΔW‖, norms by output row."""
        return any(name.endswith(MAGNITUDE) for name in self.tensors)

    def modules(self) -> list[str]:
        """Return the adapted modules' PEFT prefixes, sorted."""
        return sorted(name.removesuffix(".lora_A.weight") for name in self.tensors if name.endswith(".lora_A.weight"))


def _peft_config(weights: LoraWeights, base_name: str) -> dict[str, object]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": weights.rank,
        "lora_alpha": weights.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(weights.targets),
        "inference_mode": True,
        **({"use_dora": True} if weights.dora else {}),
    }


def adapter_sha256(weights: LoraWeights) -> str:
    """Return the hash that names an adapter: its tensors in name order and its canonical configuration."""
    head = {
        "rank": weights.rank,
        "alpha": weights.alpha,
        "targets": sorted(weights.targets),
        "base": weights.base_sha256,
    }
    tensors = {name: tensor.to("cpu", torch.float32) for name, tensor in weights.tensors.items()}
    return content_sha256(head, tensors, "{name}{shape}")


def save_adapter(store: Path, weights: LoraWeights, base_name: str, dtype: torch.dtype = torch.float32) -> AdapterRef:
    """Write an adapter to ``store/<sha256>/`` in one step; an equal one that is there already, and sound, is kept.

    Args:
        store: the folder of adapters, made if absent.
        weights: what to write.
        base_name: hub id or folder of the base model, from which PEFT loads it.
        dtype: of the file; a narrower one rounds the weights, and the hash is that of the rounded ones.

    Raises:
        ValueError: a weight is not finite; such an adapter is never written.
    """
    bad = not_finite(weights.tensors)
    if bad:
        raise ValueError(f"refusing to write an adapter with non-finite values in {bad}")
    weights = replace(weights, tensors={name: tensor.to(dtype) for name, tensor in weights.tensors.items()})
    sha256 = adapter_sha256(weights)
    header = AdapterHeader(base_sha256=weights.base_sha256, sha256=sha256, provenance=weights.provenance)
    config = _peft_config(weights, base_name)
    target = write_folder(store, header, config, weights.tensors, lambda folder: adapter_sha256(load_adapter(folder)))
    return AdapterRef(path=str(target), sha256=sha256, base_sha256=weights.base_sha256, rank=weights.rank)


def _read_config(folder: Path) -> tuple[int, int, tuple[str, ...], bool]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
        if config["peft_type"] == SOFT_PROMPT:
            raise InputError(f"{folder}: holds a soft prompt ({SOFT_PROMPT}), and LoRA is what can act here")
        rank, alpha, targets = config["r"], config["lora_alpha"], config["target_modules"]
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder}: no {CONFIG_FILE}; an adapter is a folder in PEFT format") from None
    except OSError as error:
        raise InputError(f"{folder / CONFIG_FILE}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder / CONFIG_FILE}: not a LoRA configuration ({error})") from None
    if config["peft_type"] != "LORA":
        raise InputError(f"{folder / CONFIG_FILE}: only plain LoRA is supported")
    changing = [key for key in _CHANGING if config.get(key) not in (None, False, {}, [], "none")]
    if changing:
        raise NotPlainError(f"{folder / CONFIG_FILE}: {changing[0]} is not supported here, only plain LoRA is")
    if config.get("init_lora_weights", True) not in (True, False, "gaussian", "eva", "orthogonal"):
        how = config["init_lora_weights"]
        raise NotPlainError(f"{folder / CONFIG_FILE}: init_lora_weights={how!r} changed the base weights")
    whole = all(isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 4096 for value in (rank, alpha))
    if not whole or not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
        raise NotPlainError(f"{folder / CONFIG_FILE}: r, lora_alpha or target_modules are not usable")
    return rank, alpha, tuple(sorted(targets)), config.get("use_dora") is True


def load_adapter(folder: Path, base_sha256: str | None = None) -> LoraWeights:
    """Read an adapter, refusing what is damaged or belongs to another base model.

    Args:
        folder: a PEFT folder.
        base_sha256: the base model it must belong to; adapters that do not state one pass.

    Raises:
        InputError: missing, truncated, tampered, not finite, odd shapes, or another base model.
    """
    rank, alpha, targets, dora = _read_config(folder)
    header, tensors = read_weights(folder)
    _check_tensors(folder / WEIGHTS_FILE, tensors, rank, dora=dora)
    base = header.base_for(folder, base_sha256)
    weights = LoraWeights(rank, alpha, targets, tensors, base, header.provenance)
    header.check(folder, adapter_sha256(weights))
    return weights


def _check_tensors(path: Path, tensors: dict[str, Tensor], rank: int, *, dora: bool) -> None:
    if not tensors:
        raise InputError(f"{path}: holds no tensors")
    magnitudes = {name for name in tensors if name.endswith(MAGNITUDE)} if dora else set()
    twins = {name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")} if dora else ()
    if magnitudes != {f"{module}{MAGNITUDE}" for module in twins}:
        raise NotPlainError(f"{path}: the magnitudes of DoRA are not those of its modules")
    bad = not_finite(tensors)
    if bad:
        raise InputError(f"{path}: {bad} holds values that are not finite")
    for name, tensor in ((name, tensor) for name, tensor in tensors.items() if name not in magnitudes):
        side = 0 if name.endswith(".lora_A.weight") else 1 if name.endswith(".lora_B.weight") else None
        if side is None or tensor.ndim != 2 or tensor.shape[side] != rank:
            raise NotPlainError(f"{path}: {name} with shape {tuple(tensor.shape)} is no LoRA matrix of rank {rank}")
        twin = name.replace(".lora_A.", ".lora_B.") if side == 0 else name.replace(".lora_B.", ".lora_A.")
        if twin not in tensors:
            raise InputError(f"{path}: {name} has no counterpart {twin}")


def initial_lora(
    shapes: dict[str, tuple[int, int]],
    targets: tuple[str, ...],
    rank: int,
    alpha: int,
    seed: int,
    base_sha256: str,
) -> LoraWeights:
    """Return the recorded LoRA initialisation: A uniform as in PEFT (Kaiming, a=√5), B zero.

    Every checkpoint and every test-time training starts from the same one, so that A is a constant.

    Args:
        shapes: PEFT module prefix to (out, in) of its weight.
        targets: the modules' last names.
        rank: r.
        alpha: α.
        seed: of the one generator that draws every A, in name order.
        base_sha256: the base model.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for module in sorted(shapes):
        out_features, in_features = shapes[module]
        bound = 1 / math.sqrt(in_features)  # kaiming_uniform with a = sqrt(5)
        tensors[f"{module}.lora_A.weight"] = (torch.rand(rank, in_features, generator=generator) * 2 - 1) * bound
        tensors[f"{module}.lora_B.weight"] = torch.zeros(out_features, rank)
    return LoraWeights(rank, alpha, tuple(sorted(targets)), tensors, base_sha256, {"made_by": f"initial seed={seed}"})
