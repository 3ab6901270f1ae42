"""The registry of known tasks: one file of reference embeddings each, shipped or the user's own.

``pretrained/references`` holds the in-domain tasks; ``python -m agent.reference add`` puts more into the user's data
folder. Whatever else is named, a task or a file of prompts, is encoded once and cached.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cao.errors import InputError
from cao.files import canonical_json, is_path, sha256_bytes
from cao.machine.assets import cache_dir, data_dir
from cao.model.encoder import Encoder
from cao.progress import timed
from cao.tasks import PRACTICE, TASKS, get_task
from cao.tasks.base import encoder_text
from cao.tasks.prompt_file import Asked, read_prompts
from cao.tasks.prompt_text import distinct
from cao.tasks.splits import part
from cao.types import ID_PATTERN
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.detect_drift.reference_file import read_reference, write_reference
from tools.detect_drift.window import MIN_PROMPTS

SHIPPED = Path(__file__).resolve().parents[2] / "pretrained" / "references"
"""The references that come with the product."""

IN_DOMAIN = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "piqa", "winogrande")
"""The paper's in-domain tasks, which are shipped."""

REFERENCE_PROMPTS = 512
"""Prompts in a reference, at most: the false alarms given one drawn reference scatter less with a larger one."""

REFERENCE_SEED = 0


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
        sources: each a registered name, a task's name (its ``train`` part is drawn from), a file of prompts or of
            questions, or a reference file; none makes all registered tasks current.
        encoder: the frozen encoder.
        folder: of the user's own registry, None for the usual one.

    Raises:
        InputError: an unknown name, an unusable file, two references of one name, too few prompts, or embeddings of
            different widths.
        UnavailableError: a task's data is not at hand.
    """
    named = check_sources(sources, folder)
    every = {**named, **{name: path for name, path in registered(folder).items() if name not in named}}
    references = {name: read_reference(it, encoder.sha256) for name, it in every.items() if isinstance(it, Path)}
    references |= {name: _cached(name, it, encoder) for name, it in named.items() if not isinstance(it, Path)}
    _check_widths(references, every)
    return KnownTasks({name: references[name] for name in every}, tuple(named))


def check_sources(sources: Sequence[str], folder: Path | None = None) -> dict[str, Path | list[Asked]]:
    """Return what the named references are made from, by name; nothing is encoded.

    Args:
        sources: as ``known_tasks`` takes them.
        folder: of the user's own registry, None for the usual one.

    Raises:
        InputError: an unknown name, an unusable file, two references of one name, or too few prompts.
        UnavailableError: a task's data is not at hand.
    """
    named: dict[str, Path | list[Asked]] = {}
    for source in dict.fromkeys(sources):
        name, content = _resolve(source, registered(folder))
        if name in named:
            raise InputError(f"two references are named {name!r}; rename one of the files")
        named[name] = content
    return named


def draw_prompts(source: str) -> list[Asked]:
    """Return the prompts of a reference: at most 512, drawn over the whole of a task's ``train`` part or of a file.

    One question of each group is drawn from (twins would not be independent), and of prompts that repeat the first.

    Args:
        source: a task's name, or a file of prompts or of questions.

    Raises:
        InputError: an unknown task, an unusable file, or too few prompts.
        UnavailableError: the task's data is not at hand.
    """
    if is_path(source) or (source not in TASKS | PRACTICE and Path(source).is_dir()):
        asked = read_prompts(Path(source))
    else:
        one_of_each = {example.group or example.id: example for example in part(get_task(source), "train")}
        asked = [Asked(encoder_text(example), example, labelled=True) for example in one_of_each.values()]
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


def _check_widths(references: dict[str, Reference], every: dict[str, Path | list[Asked]]) -> None:
    """Raise InputError where two references cannot come from one encoder, whatever their files say."""
    named = [(it if isinstance(it, Path) else name, references[name].embeddings.shape[1]) for name, it in every.items()]
    for place, width in named[1:]:
        if width != named[0][1]:
            raise InputError(f"{place}: its embeddings have {width} numbers, those of {named[0][0]} {named[0][1]}")


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
        with timed(f"encoding {len(prompts)} prompts of the reference {name}, once"):
            write_reference(path, Reference(encoder.embed(prompts)), encoder.sha256, "cache", ())
        embeddings = read_reference(path, encoder.sha256).embeddings
    return Reference(embeddings, correct=correct)
