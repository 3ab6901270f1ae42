"""The registry of known tasks: one file of reference embeddings each, shipped or the user's own.

``pretrained/references`` holds the in-domain tasks; ``python -m agent.reference add`` puts more into the user's data
folder. Whatever else is named, a task or a file of prompts, is encoded once and cached.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cao.errors import InputError
from cao.files import canonical_json, is_path, sha256_bytes, write_atomic
from cao.machine.assets import cache_dir, data_dir
from cao.model.encoder import Encoder
from cao.progress import told
from cao.tasks import TASKS, get_task
from cao.tasks.prompt_file import Asked, read_prompts
from cao.tasks.prompt_text import distinct
from cao.tasks.splits import part
from cao.types import ID_PATTERN
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.window import MIN_PROMPTS

SHIPPED = Path(__file__).resolve().parents[2] / "pretrained" / "references"
"""The references that come with the product."""

IN_DOMAIN = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "piqa", "winogrande")
"""The paper's in-domain tasks, which are shipped."""

REFERENCE_PROMPTS = 512
"""Prompts in a reference, at most: the false alarms given one drawn reference scatter less with a larger one."""

REFERENCE_SEED = 0

UNIT_TOLERANCE = 1e-2
"""How far from 1 a row's length may lie: half precision rounds it."""

OTHER_ENCODER = "made by another encoder; build it anew from its prompts"

_FLOATS = (torch.float16, torch.float32, torch.float64)


def user_folder() -> Path:
    """Return the folder of the user's own references, made if absent."""
    path = data_dir() / "references"
    path.mkdir(exist_ok=True)
    return path


def registered(folder: Path | None = None) -> dict[str, Path]:
    """Return the known tasks by name, the shipped ones first.

    Args:
        folder: of the user's own, None for the usual one.

    Raises:
        InputError: there is no such folder.
    """
    if folder is not None and not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder; references of one's own are looked for in it")
    own = sorted((folder or user_folder()).glob("*.safetensors"))
    return {path.stem: path for path in [*sorted(SHIPPED.glob("*.safetensors")), *own]}


def known_tasks(sources: Sequence[str], encoder: Encoder, folder: Path | None = None) -> KnownTasks:
    """Return every registered task and the named ones, which become the current tasks.

    Whatever can be refused is refused before anything is encoded.

    Args:
        sources: each a registered name, a task's name (its ``train`` part is drawn from), a JSONL file with a
            ``prompt`` or a ``question`` on each line, or a reference file; none makes all registered tasks current.
        encoder: the frozen encoder.
        folder: of the user's own registry, None for the usual one.

    Raises:
        InputError: an unknown name, an unusable file, two references of one name, too few prompts, or embeddings of
            different widths.
        UnavailableError: a task's data is not at hand.
    """
    found = check_sources(sources, folder)
    every = {**found, **{name: path for name, path in registered(folder).items() if name not in found}}
    references = {name: read_reference(it, encoder.sha256) for name, it in every.items() if isinstance(it, Path)}
    references |= {name: _cached(name, it, encoder) for name, it in found.items() if not isinstance(it, Path)}
    _check_widths(references, every)
    return KnownTasks({name: references[name] for name in every}, tuple(found))


def check_sources(sources: Sequence[str], folder: Path | None = None) -> dict[str, Path | list[Asked]]:
    """Return what the named references are made from, by name; nothing is encoded.

    Args:
        sources: as ``known_tasks`` takes them.
        folder: of the user's own registry, None for the usual one.

    Raises:
        InputError: an unknown name, an unusable file, two references of one name, or too few prompts.
        UnavailableError: a task's data is not at hand.
    """
    found: dict[str, Path | list[Asked]] = {}
    for source in dict.fromkeys(sources):
        name, content = _resolve(source, registered(folder))
        if name in found:
            raise InputError(f"two references are named {name!r}; rename one of the files")
        found[name] = content
    return found


def draw_prompts(source: str) -> list[Asked]:
    """Return the prompts of a reference: at most 512, drawn over the whole of a task's ``train`` part or of a file.

    One question of each group is drawn from (twins would not be independent), and of prompts that repeat the first.

    Args:
        source: a task's name or a JSONL file.

    Raises:
        InputError: an unknown task, an unusable file, or too few prompts.
        UnavailableError: the task's data is not at hand.
    """
    if is_path(source):
        asked = read_prompts(Path(source))
    else:
        one_of_each = {example.group or example.id: example for example in part(get_task(source), "train")}
        asked = [Asked(example.prompt, example, labelled=True) for example in one_of_each.values()]
    pool = [asked[i] for i in distinct([one.prompt for one in asked])]
    if len(pool) < MIN_PROMPTS:
        raise InputError(f"{source}: {len(pool)} distinct prompts; a reference needs at least {MIN_PROMPTS}")
    if len(pool) <= REFERENCE_PROMPTS:
        return pool
    chosen = np.random.default_rng(REFERENCE_SEED).choice(len(pool), REFERENCE_PROMPTS, replace=False)
    return [pool[i] for i in sorted(chosen)]


def group_hashes(asked: Sequence[Asked]) -> list[str]:
    """Return a hash for the group of each question, in order, so that nobody needs the texts to compare them."""
    examples = [one.example for one in asked if one.example is not None]
    return [sha256_bytes((example.group or example.id).encode())[:16] for example in examples]


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
    header = {
        "encoder_sha256": encoder_sha256,
        "content_sha256": _content_sha256(tensors),
        "judged_by": reference.judged_by or "",
        "made_from": made_from,
        "groups": " ".join(groups),
        "in_order": "yes" if reference.in_order else "",
    }
    write_atomic(path, save(tensors, header))


def read_reference(path: Path, encoder_sha256: str) -> Reference:
    """Read one reference file.

    Args:
        path: a safetensors file with ``embeddings`` (m, C).
        encoder_sha256: the encoder that must have made it.

    Raises:
        InputError: missing, damaged, changed, or made by another encoder.
    """
    header, tensors = _open(path)
    if header.get("encoder_sha256") != encoder_sha256:
        raise InputError(f"{path}: {OTHER_ENCODER}")
    embeddings, correct = tensors["embeddings"].float(), tensors.get("correct")
    return Reference(
        torch.nn.functional.normalize(embeddings, dim=1),
        tensors.get("signals"),
        correct.bool() if correct is not None else None,
        header.get("judged_by") or None,
        bool(header.get("in_order")),
    )


def read_info(path: Path) -> ReferenceInfo:
    """Return what a reference file says about itself.

    Raises:
        InputError: missing, damaged or changed.
    """
    header, tensors = _open(path)
    return ReferenceInfo(
        made_from=header.get("made_from", ""),
        encoder_sha256=header.get("encoder_sha256", ""),
        prompts=len(tensors["embeddings"]),
        signals="signals" in tensors,
        answers="correct" in tensors,
        groups=tuple(header.get("groups", "").split()),
    )


def is_shipped(folder: Path) -> bool:
    """Return whether a folder is that of the shipped references, by whatever path."""
    return folder.resolve() == SHIPPED.resolve()


def check_name(name: str, folder: Path) -> str:
    """Return ``name`` if a reference in a folder may have it.

    Raises:
        InputError: it is no plain name, or that of a shipped reference which is not made anew in its own folder.
    """
    if not re.fullmatch(ID_PATTERN, name):
        raise InputError(f"{name!r} is no name for a reference; use small letters, digits, hyphens and underscores")
    if (SHIPPED / f"{name}.safetensors").exists() and not is_shipped(folder):
        raise InputError(f"{name!r} is a shipped reference; choose another name")
    return name


def _open(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: no usable reference file ({error})") from None
    if header.get("content_sha256") != _content_sha256(tensors):
        raise InputError(f"{path}: content does not match its recorded hash; it was changed")
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
    if signals is not None and not bool(signals.isfinite().all()):
        return "holds signals that are not finite"
    if correct is not None and (correct.shape != rows.shape[:1] or correct.dtype not in (torch.uint8, torch.bool)):
        return "holds outcomes that are not one truth value for each prompt"
    return None


def _check_widths(references: dict[str, Reference], every: dict[str, Path | list[Asked]]) -> None:
    """Raise InputError where two references cannot come from one encoder, whatever their files say."""
    named = [(it if isinstance(it, Path) else name, references[name].embeddings.shape[1]) for name, it in every.items()]
    for place, width in named[1:]:
        if width != named[0][1]:
            raise InputError(f"{place}: its embeddings have {width} numbers, those of {named[0][0]} {named[0][1]}")


def _content_sha256(tensors: dict[str, Tensor]) -> str:
    parts: list[Any] = [
        [
            name,
            str(tensor.dtype),
            list(tensor.shape),
            sha256_bytes(tensor.reshape(-1).view(torch.uint8).numpy().tobytes()),
        ]
        for name, tensor in sorted(tensors.items())
    ]
    return sha256_bytes(canonical_json(parts).encode())


def _resolve(source: str, names: dict[str, Path]) -> tuple[str, Path | list[Asked]]:
    if source in names:
        return source, names[source]
    path = Path(source)
    if path.suffix == ".safetensors":
        return path.stem, path
    if not is_path(source) and source not in TASKS:
        own = f"; registered: {', '.join(names)}" if names else ""
        try:
            get_task(source)
        except InputError as error:
            raise InputError(f"{error}{own}") from None
    return path.stem, draw_prompts(source)


def _cached(name: str, asked: list[Asked], encoder: Encoder) -> Reference:
    """Return the prompts' reference, its embeddings from the cache where it holds them undamaged."""
    folder = cache_dir() / "references"
    folder.mkdir(exist_ok=True)
    prompts = [one.prompt for one in asked]
    path = folder / f"{encoder.sha256[:16]}-{sha256_bytes(canonical_json(prompts).encode())}.safetensors"
    outcomes = [one.correct for one in asked if one.correct is not None]
    correct = torch.tensor(outcomes) if len(outcomes) == len(asked) else None
    try:
        embeddings = read_reference(path, encoder.sha256).embeddings
    except InputError:  # absent or damaged: the same file comes out again
        with told(f"encoding {len(prompts)} prompts of the reference {name}, once"):
            write_reference(path, Reference(encoder.embed(prompts)), encoder.sha256, "cache", ())
        embeddings = read_reference(path, encoder.sha256).embeddings
    return Reference(embeddings, correct=correct)
