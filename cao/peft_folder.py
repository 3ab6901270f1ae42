"""PEFT's folders of weights: a configuration and a safetensors file, written in one step and named by a hash."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from cao.errors import InputError
from cao.files import UNFINISHED, usual_modes, write_atomic
from cao.sealed import read_tensors, write_tensors
from cao.types import CONFIG_FILE, WEIGHTS_FILE, Record

PREFIX = "base_model.model."
"""What PEFT puts before a module's name in its files."""

SOFT_PROMPT = "PROMPT_TUNING"
"""PEFT's name of prompt tuning in a configuration."""


class AdapterHeader(Record):
    """What this project adds to a PEFT file's safetensors header; a file that PEFT wrote states nothing.

    Its entries lie flat, as PEFT's own do, and the hash is that of the adapter, whose configuration is another file.

    Attributes:
        base_sha256: the base model, empty where it is not stated.
        sha256: the adapter's hash, empty where it is not stated.
        provenance: how it was made.
    """

    base_sha256: str
    sha256: str
    provenance: dict[str, str]

    def to_entries(self) -> dict[str, str]:
        """Return the entries of the safetensors header."""
        return {"format": "pt", "base_sha256": self.base_sha256, "sha256": self.sha256, **self.provenance}

    @classmethod
    def of_entries(cls, entries: dict[str, str]) -> Self:
        """Return what the entries of a safetensors header state."""
        others = {key: value for key, value in entries.items() if key not in ("format", "base_sha256", "sha256")}
        return cls(base_sha256=entries.get("base_sha256", ""), sha256=entries.get("sha256", ""), provenance=others)

    def base_for(self, folder: Path, base_sha256: str | None) -> str:
        """Return the base model's hash, as the file states it or as it is known; empty where neither is.

        Raises:
            InputError: the file states another than ``base_sha256``.
        """
        stated = self.base_sha256
        if base_sha256 and stated and stated != base_sha256:
            raise InputError(f"{folder}: made for base model {stated[:12]}, this one is {base_sha256[:12]}")
        return stated or base_sha256 or ""

    def check(self, folder: Path, sha256: str) -> None:
        """Raise InputError where the file states another hash than that of its content."""
        if self.sha256 and self.sha256 != sha256:
            path, recorded = folder / WEIGHTS_FILE, self.sha256[:12]
            raise InputError(f"{path}: content does not match its recorded hash {recorded}; it was changed")


def write_folder(
    store: Path,
    header: AdapterHeader,
    config: Mapping[str, object],
    tensors: Mapping[str, Tensor],
    hash_of: Callable[[Path], str],
) -> Path:
    """Write a PEFT folder ``store/<sha256>/`` in one step and return it; an equal and sound one is kept.

    Args:
        store: the folder of adapters, made if absent.
        header: of the weights' file; names the folder.
        config: PEFT's configuration.
        tensors: the weights.
        hash_of: reads such a folder and returns the hash of what it holds; raises InputError where it cannot be read.
    """
    target = store / header.sha256
    if _holds(target, hash_of):
        return target
    store.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=store, prefix=".adapter.", suffix=UNFINISHED))
    try:
        write_tensors(temporary / WEIGHTS_FILE, tensors, header.to_entries())
        write_atomic(temporary / CONFIG_FILE, json.dumps(config, indent=2, sort_keys=True))
        usual_modes(temporary)
        try:
            os.replace(temporary, target)
        except OSError:
            if not _holds(target, hash_of):  # another process was first with the same content
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _holds(folder: Path, hash_of: Callable[[Path], str]) -> bool:
    """Return whether a folder holds what its name says; one that was changed since is removed."""
    if not folder.exists():
        return False
    try:
        if hash_of(folder) == folder.name:
            return True
    except InputError:
        pass
    shutil.rmtree(folder)
    return False


def read_weights(folder: Path) -> tuple[AdapterHeader, dict[str, Tensor]]:
    """Return the header and the float32 tensors of a PEFT folder.

    Raises:
        InputError: there is no safetensors file, or it is damaged.
    """
    path = folder / WEIGHTS_FILE
    if not path.exists():
        raise InputError(f"{folder}: no {WEIGHTS_FILE}; only safetensors are read")
    entries, stored = read_tensors(path)
    return AdapterHeader.of_entries(entries), {name: tensor.to(torch.float32) for name, tensor in stored.items()}
