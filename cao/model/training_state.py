"""The file that a killed training goes on from: parameters, their optimiser's moments, and what else it carries."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cao.errors import InputError
from cao.files import write_atomic


def save_training(
    path: Path,
    fingerprint: str,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    carried: Mapping[str, Tensor],
) -> None:
    """Write a training's state in one step.

    Args:
        path: a safetensors file.
        fingerprint: hash of everything that the training depends on.
        parameters: name → what the optimiser changes.
        optimizer: its moments are kept.
        carried: name → whatever else the training needs to go on.
    """
    tensors = {f"carried/{name}": value for name, value in carried.items()}
    for name, parameter in parameters.items():
        tensors[f"weight/{name}"] = parameter
        tensors |= {f"{moment}/{name}": value for moment, value in optimizer.state.get(parameter, {}).items()}
    flat = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomic(path, save(flat, {"fingerprint": fingerprint, "sha256": _sha256(flat)}))


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the hash of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def restore_training(
    path: Path,
    fingerprint: str,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    carried: Sequence[str],
) -> dict[str, Tensor] | None:
    """Set parameters and moments from a file and return what else it carries.

    Args:
        path: what ``save_training`` wrote.
        fingerprint: of this training.
        parameters: name → parameter, on any device; changed in place.
        optimizer: its moments are set.
        carried: names of what else it must hold.

    Returns:
        What was carried, on the CPU; None, and nothing is changed, where there is no file or it is another
        training's.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("fingerprint") != fingerprint:
                return None
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.get("sha256", content := _sha256(stored)) != content:
            raise ValueError("its content does not match its hash")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(stored.pop(f"weight/{name}"))
        found = {name: stored.pop(f"carried/{name}") for name in carried}
        for entry, value in stored.items():
            moment, name = entry.split("/", 1)
            parameter = parameters[name]
            optimizer.state[parameter][moment] = value if moment == "step" else value.to(parameter.device)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it to train from the start") from None
    return found
