"""The intermediate files of a consolidation: written in one step, and named where they are damaged."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from cao.errors import InputError
from cao.files import opened
from cao.sealed import content_sha256, on_cpu, write_tensors

T = TypeVar("T")


_HASH = "content_sha256"
_LABEL = "{name}{dtype}{shape}"


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    """Write tensors to a safetensors file in one step; its header holds a hash of all that it states."""
    plain = on_cpu(tensors)
    write_tensors(path, plain, {**header, _HASH: content_sha256(header, plain, _LABEL)})


def read_header(path: Path) -> dict[str, str]:
    """Return the header of a safetensors file.

    Raises:
        InputError: it is damaged.
    """
    return _read(path)[0]


def read_tensors(path: Path, *names: str) -> list[Tensor]:
    """Return the tensors of these names from a safetensors file.

    Raises:
        InputError: it is damaged.
    """
    tensors = _read(path)[1]
    try:
        return [tensors[name] for name in names]
    except KeyError as error:
        raise _damaged(path, error) from None


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return header and tensors, held against their hash; what an older version wrote has none."""
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
        tensors, recorded = load_file(path), header.pop(_HASH, None)
        if recorded and content_sha256(header, tensors, _LABEL) != recorded:
            raise ValueError("its content does not match its hash")
        return header, tensors
    except (OSError, SafetensorError, ValueError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: damaged ({error}); delete it to make it again")


def read_json(path: Path, kind: type[T]) -> T:
    """Return what a JSON file holds.

    Args:
        path: the file.
        kind: its type.

    Raises:
        InputError: it is damaged, or of another type.
    """
    try:
        return TypeAdapter(kind).validate_python(json.loads(opened(path.read_bytes())))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}); delete it to make it again") from None
