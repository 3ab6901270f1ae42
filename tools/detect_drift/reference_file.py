"""A known task's reference on disk: one sealed file with embeddings, signals and outcomes of its prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cao.errors import InputError
from cao.files import canonical_json, sha256_bytes
from cao.sealed import ENTRY, Header, raw_bytes, read_sealed, write_sealed
from tools.detect_drift.known_tasks import Reference
from tools.detect_drift.window import MIN_PROMPTS

UNIT_TOLERANCE = 1e-2
"""How far from 1 a row's length may lie: half precision rounds it."""

OTHER_ENCODER = "made by another encoder; build it anew from its prompts"

_FLOATS = (torch.float16, torch.float32, torch.float64)


class ReferenceHeader(Header):
    """The header of a reference file.

    Attributes:
        format: of the file.
        encoder_sha256: of the encoder that made it.
        judged_by: hash of the model that its outcomes and signals are of, None where it holds none.
        made_from: the task or file that its prompts come from.
        groups: hashes of the questions' groups, where it was made from a task.
        in_order: whether its rows stand in the order in which the prompts came.
    """

    what: ClassVar[str] = "a reference"

    format: Literal["cao-reference-1"] = "cao-reference-1"
    encoder_sha256: str
    judged_by: str | None = None
    made_from: str = ""
    groups: tuple[str, ...] = ()
    in_order: bool = False

    @classmethod
    def unpack(cls, entries: Mapping[str, str], tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], str, str]:
        """Return values and hashes of a file; the shipped ones hold an entry a value, and hash the tensors alone."""
        if ENTRY in entries:
            return super().unpack(entries, tensors)
        values: dict[str, object] = {
            "format": "cao-reference-1",
            "encoder_sha256": entries["encoder_sha256"],
            "judged_by": entries.get("judged_by") or None,
            "made_from": entries.get("made_from", ""),
            "groups": entries.get("groups", "").split(),
            "in_order": bool(entries.get("in_order")),
        }
        parts = [
            [name, str(tensor.dtype), list(tensor.shape), sha256_bytes(raw_bytes(tensor))]
            for name, tensor in sorted(tensors.items())
        ]
        return values, entries["content_sha256"], sha256_bytes(canonical_json(parts).encode())


@dataclass(frozen=True)
class ReferenceInfo:
    """What a reference file says about itself.

    Attributes:
        made_from: the task or file that its prompts come from.
        encoder_sha256: of the encoder that made it.
        prompts: how many.
        signals: whether it holds option signals.
        answers: whether it holds outcomes.
        groups: hashes of the questions' groups, where it was made from a task.
    """

    made_from: str
    encoder_sha256: str
    prompts: int
    signals: bool
    answers: bool
    groups: tuple[str, ...]


def write_reference(
    path: Path, reference: Reference, encoder_sha256: str, made_from: str, groups: Sequence[str]
) -> None:
    """Write a reference in one step, its embeddings in half precision.

    Args:
        path: a safetensors file; its folder exists.
        reference: the sample.
        encoder_sha256: of the encoder that made it.
        made_from: the task or file that its prompts come from.
        groups: the questions' groups, so that anybody can see that no test question is among them.
    """
    tensors = {"embeddings": reference.embeddings.half()}
    if reference.signals is not None:
        tensors["signals"] = reference.signals.float()
    if reference.correct is not None:
        tensors["correct"] = reference.correct.to(torch.uint8)
    header = ReferenceHeader(
        encoder_sha256=encoder_sha256,
        judged_by=reference.judged_by or None,
        made_from=made_from,
        groups=tuple(groups),
        in_order=reference.in_order,
    )
    write_sealed(path, header, tensors)


def read_reference(path: Path, encoder_sha256: str) -> Reference:
    """Read one reference file.

    Args:
        path: a safetensors file with ``embeddings`` (m, C).
        encoder_sha256: the encoder that must have made it.

    Raises:
        InputError: missing, damaged, changed, or made by another encoder.
    """
    header, tensors = _open(path)
    if header.encoder_sha256 != encoder_sha256:
        raise InputError(f"{path}: {OTHER_ENCODER}")
    embeddings, correct = tensors["embeddings"].float(), tensors.get("correct")
    return Reference(
        torch.nn.functional.normalize(embeddings, dim=1),
        tensors.get("signals"),
        correct.bool() if correct is not None else None,
        header.judged_by,
        header.in_order,
    )


def read_info(path: Path) -> ReferenceInfo:
    """Return what a reference file says about itself.

    Raises:
        InputError: missing, damaged or changed.
    """
    header, tensors = _open(path)
    return ReferenceInfo(
        made_from=header.made_from,
        encoder_sha256=header.encoder_sha256,
        prompts=len(tensors["embeddings"]),
        signals="signals" in tensors,
        answers="correct" in tensors,
        groups=header.groups,
    )


def _open(path: Path) -> tuple[ReferenceHeader, dict[str, Tensor]]:
    header, tensors, _ = read_sealed(path, ReferenceHeader)
    fault = _fault(tensors)
    if fault is not None:
        raise InputError(f"{path}: {fault}")
    return header, tensors


def _fault(tensors: dict[str, Tensor]) -> str | None:
    """Return what keeps a file's tensors from being a reference, None if nothing does."""
    rows, signals, correct = (tensors.get(name) for name in ("embeddings", "signals", "correct"))
    strange = sorted(tensors.keys() - {"embeddings", "signals", "correct"})
    if strange:
        return f"holds {strange[0]!r}, which no reference has"
    if rows is None or rows.ndim != 2 or len(rows) < MIN_PROMPTS:
        return f"holds no embeddings of {MIN_PROMPTS} prompts or more"
    if rows.dtype not in _FLOATS:
        return f"holds embeddings of {rows.dtype}; they must be floating-point numbers"
    if not bool(((rows.double().norm(dim=1) - 1).abs() <= UNIT_TOLERANCE).all()):  # false for NaN too
        return "holds embeddings that are not finite and of unit length"
    if signals is not None and (signals.shape != (len(rows), 2) or signals.dtype not in _FLOATS):
        return "holds signals that are not two floating-point numbers for each prompt"
    if correct is not None and (correct.shape != rows.shape[:1] or correct.dtype not in (torch.uint8, torch.bool)):
        return "holds outcomes that are not one truth value for each prompt"
    return None
