"""The file that a killed training goes on from: parameters, their optimiser's moments, and what else it carries."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cao.errors import InputError
from cao.sealed import Header, read_sealed, write_sealed


class TrainingHeader(Header):
    """The header of a training's state.

    Attributes:
        format: of the file.
        fingerprint: hash of everything that the training depends on.
    """

    what: ClassVar[str] = "a training's state"
    finite: ClassVar[bool] = False

    format: Literal["cao-training-1"] = "cao-training-1"
    fingerprint: str


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
    write_sealed(path, TrainingHeader(fingerprint=fingerprint), tensors)


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
        header, stored, _ = read_sealed(path, TrainingHeader)
        if header.fingerprint != fingerprint:
            return None
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(stored.pop(f"weight/{name}"))
        others = {name: stored.pop(f"carried/{name}") for name in carried}
        for entry, value in stored.items():
            moment, name = entry.split("/", 1)
            parameter = parameters[name]
            optimizer.state[parameter][moment] = value if moment == "step" else value.to(parameter.device)
    except (InputError, KeyError, ValueError, RuntimeError) as error:
        what = str(error).removeprefix(f"{path}: ")
        raise InputError(f"{path}: damaged ({what}); delete it to train from the start") from None
    return others
