"""Sealed files: tensors with a typed header, and a hash over both that every reader checks.

A sealed file is a safetensors file. Its header's entry ``about`` is the canonical JSON of a pydantic model and of the
hash; it is one entry because safetensors keeps no order of several. The hash covers the model's JSON, and then name,
dtype, shape and bytes of each tensor in the order of the names.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self, TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cao.errors import InputError
from cao.files import canonical_json, replaced
from cao.types import Record

ENTRY = "about"


class Header(Record):
    """What a sealed file says about itself; each kind of file is a subclass.

    A subclass has a field ``format`` with its one value as the default. Where its first files were written otherwise,
    it says so in the class variables, or in ``unpack``: a hash that was recorded once stays what it is.

    Attributes:
        what: the kind with its article, for messages.
        hash_key: the hash's key beside the header's own ones.
        label: what is hashed of a tensor before its bytes.
        finite: whether tensors with other values are refused.
    """

    what: ClassVar[str]
    hash_key: ClassVar[str] = "sha256"
    label: ClassVar[str] = "{name}{dtype}{shape}"
    finite: ClassVar[bool] = True

    def digest(self, tensors: Mapping[str, Tensor]) -> str:
        """Return the hash of a file with this header and these tensors."""
        return content_sha256(self.model_dump(mode="json"), tensors, self.label)

    @classmethod
    def unpack(cls, entries: Mapping[str, str], tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], str, str]:
        """Return a header's plain values, the recorded hash and that of the content.

        Args:
            entries: of the safetensors header.
            tensors: what the file holds.
        """
        values = json.loads(entries[ENTRY])
        recorded = values.pop(cls.hash_key)
        return values, str(recorded), content_sha256(values, tensors, cls.label)

    @classmethod
    def of_values(cls, path: Path, values: dict[str, object]) -> Self:
        """Return the header with these plain values.

        Raises:
            InputError: they are not such a header's.
        """
        try:
            return cls.model_validate_json(canonical_json(values), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"{path}: its header cannot be read ({where}: {first['msg']})") from None
        except InputError as error:
            raise InputError(f"{path}: its header cannot be read ({error})") from None


H = TypeVar("H", bound=Header)


def content_sha256(head: Mapping[str, object], tensors: Mapping[str, Tensor], label: str) -> str:
    """Return the hash over plain values and tensors.

    Args:
        head: JSON values.
        tensors: name → tensor, on the CPU.
        label: what is hashed of a tensor before its bytes, with ``name``, ``dtype`` and ``shape`` in braces.
    """
    digest = hashlib.sha256(canonical_json(head).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(label.format(name=name, dtype=tensor.dtype, shape=tuple(tensor.shape)).encode())
        digest.update(raw_bytes(tensor))
    return digest.hexdigest()


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as they are hashed and written; of those that lie so already nothing is copied."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def raw_bytes(tensor: Tensor) -> memoryview:
    """Return a tensor's values as they lie in a file; of one on the CPU nothing is copied."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def write_tensors(path: Path, tensors: Mapping[str, Tensor], entries: Mapping[str, str]) -> None:
    """Write a safetensors file in one step, whose bytes depend on its content alone.

    safetensors writes several entries of a header in an order that changes from process to process; here they are
    sorted. The tensors go to the disk as they lie in memory: the file is never there as a whole.

    Args:
        path: the file.
        tensors: name → tensor.
        entries: of the header.
    """
    plain = on_cpu(tensors)
    with replaced(path, sum(tensor.nbytes for tensor in plain.values())) as temporary:
        save_file(plain, temporary, dict(entries))
        with temporary.open("rb+") as stream:
            length = int.from_bytes(stream.read(8), "little")
            head = json.loads(stream.read(length))
            head["__metadata__"] = dict(sorted(entries.items()))
            text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
            assert len(text) <= length, "the same entries in another order take the same room"
            stream.seek(8)
            stream.write(text.ljust(length))


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with a NaN or an infinity, None if all are finite."""
    return next((name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())), None)


def write_sealed(path: Path, header: Header, tensors: Mapping[str, Tensor]) -> str:
    """Write a sealed file in one step and return its hash.

    Raises:
        ValueError: a value is not finite; such a file is never written.
    """
    bad = not_finite(tensors) if header.finite else None
    if bad:
        raise ValueError(f"refusing to write {header.what} with non-finite values in {bad}")
    plain = on_cpu(tensors)
    sha256 = header.digest(plain)
    write_tensors(path, plain, {ENTRY: canonical_json({**header.model_dump(mode="json"), header.hash_key: sha256})})
    return sha256


def read_sealed(path: Path, kind: type[H]) -> tuple[H, dict[str, Tensor], str]:
    """Return the header, the tensors and the hash of a sealed file.

    Args:
        path: what ``write_sealed`` wrote.
        kind: its header's class.

    Raises:
        InputError: missing, truncated, changed, of another kind or format, or not finite; the message names the file.
    """
    entries, tensors = read_tensors(path)
    try:
        values, recorded, sha256 = kind.unpack(entries, tensors)
        version, ours = values["format"], kind.model_fields["format"].default
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not {kind.what} ({type(error).__name__} in its header)") from None
    if version != ours:
        raise InputError(f"{path}: {kind.what} of format {version!r}, this version reads {ours!r}")
    if sha256 != recorded:
        raise InputError(f"{path}: its content has hash {sha256[:12]}, recorded is {recorded[:12]}; it was changed")
    header = kind.of_values(path, values)
    bad = not_finite(tensors) if kind.finite else None
    if bad:
        raise InputError(f"{path}: {bad} holds values that are not finite")
    return header, tensors, sha256


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the entries of a safetensors file's header, and its tensors.

    Raises:
        InputError: missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged or not safetensors ({error})") from None
