"""The intermediate files of a consolidation: written in one step, and named where they are damaged."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from cao.errors import InputError
from cao.files import write_atomic

T = TypeVar("T")


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    """Write tensors to a safetensors file in one step."""
    write_atomic(path, save({name: value.contiguous() for name, value in tensors.items()}, header))


def read_header(path: Path) -> dict[str, str]:
    """Return the header of a safetensors file.

    Raises:
        InputError: it is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it to make it again") from None


def read_tensors(path: Path, *names: str) -> list[Tensor]:
    """Return the tensors of these names from a safetensors file.

    Raises:
        InputError: it is damaged.
    """
    try:
        stored = load_file(path)
        return [stored[name] for name in names]
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it to make it again") from None


def read_json(path: Path, kind: type[T]) -> T:
    """Return what a JSON file holds.

    Args:
        path: the file.
        kind: its type.

    Raises:
        InputError: it is damaged, or of another type.
    """
    try:
        return TypeAdapter(kind).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}); delete it to make it again") from None
