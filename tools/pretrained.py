"""The index of trained parts: which generator and aligner serve a base model, and how each was made.

``index.json`` lies in the folder of trained parts, which the setting ``pretrained`` names: what ships, or a user's.
``python -m agent.consolidate --install`` adds to it. A model has several variants: ``full``, trained on all sources;
``fold-N`` and ``without-TASK``, which were kept from some; and those of a preset's own sets of sources.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, ValidationError

from cao.configuration import SHIPPED, explain
from cao.errors import InputError
from cao.files import opened
from cao.tasks.files.keys import listed
from cao.tasks.same_problems import kept_from
from cao.types import Record

AUTO = "auto"
FULL = "full"
FOLD = "fold-"


class Artefact(Record):
    """One file: its path relative to the index, and the hash that its own header states."""

    path: str
    sha256: str


class Variant(Record):
    """A generator with the aligner behind it.

    Attributes:
        name: ``full``, ``fold-N``, ``without-TASK``, or the name of a set of sources.
        sources: the tasks it was trained on.
        leaves_out: the tasks that it was kept from on purpose.
        generator: its file.
        aligner: the aligner's file, None where none was trained.
        made: preset, seeds, hashes of data and model, losses, code version.
    """

    name: str
    sources: tuple[str, ...]
    leaves_out: tuple[str, ...] = ()
    generator: Artefact
    aligner: Artefact | None = None
    made: dict[str, object] = Field(default_factory=dict)


class Shelf(Record):
    """All variants for one base model.

    Attributes:
        name: the model profile's.
        variants: each with its files.
        questions: the file of the sources' questions, as hashes; None where that was not kept.
    """

    name: str
    variants: tuple[Variant, ...]
    questions: Artefact | None = None


class Index(Record):
    """The index file; models by the hash of their weights."""

    format: int = Field(ge=1, le=1)
    models: dict[str, Shelf]


def index_of(folder: str | Path | None = None) -> Path:
    """Return the index file of a folder of trained parts, of the shipped one where none is given."""
    return Path(folder or SHIPPED) / "index.json"


def read_index(index: Path) -> Index | None:
    """Return the index, or None where there is no such file.

    Raises:
        InputError: it is damaged, of another version, or contradicts itself.
    """
    try:
        read = Index.model_validate(json.loads(opened(index.read_bytes())))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise InputError(f"{index}: not an index of trained parts ({explain(error)})") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{index}: not an index of trained parts ({type(error).__name__})") from None
    for shelf in read.models.values():
        for contradiction in contradictions(shelf):
            raise InputError(f"{index}: {shelf.name}: {contradiction}")
    return read


def contradictions(shelf: Shelf) -> Iterator[str]:
    """Yield what the entries of a model's variants say against one another, each with both sides named.

    A variant's sources are none that it leaves out, and those that its generator states; an aligner that was trained
    across folds names for each what that fold left out.
    """
    by_name = {variant.name: variant for variant in shelf.variants}
    for variant in shelf.variants:
        if both := sorted({*variant.sources} & {*variant.leaves_out}):
            yield f"`{variant.name}` has {both[0]} among its sources and among what it leaves out"
        learnt = variant.made.get("sources", list(variant.sources))
        if learnt != list(variant.sources):
            yield f"`{variant.name}` lists sources {_listed(variant.sources)}, its generator {_listed(learnt)}"
        used = variant.made.get("aligner")
        for fold, left in used.items() if isinstance(used, dict) else ():
            if not fold.startswith(FOLD):
                continue
            if fold not in by_name:
                yield f"the aligner of `{variant.name}` was trained by `{fold}`, which is not listed"
            elif str(left).split() != list(by_name[fold].leaves_out):
                other = f"it is listed with {_listed(by_name[fold].leaves_out)}"
                yield f"the aligner of `{variant.name}` has `{fold}` leave out {_listed(str(left).split())}; {other}"


def _listed(names: object) -> str:
    """Return some names for a message, whatever an index has in their place."""
    return listed(map(str, names if isinstance(names, (list, tuple)) else [names]), 5) or "none"


def choose(base_sha256: str, task: str | None = None, variant: str = AUTO, index: Path | None = None) -> Variant | None:
    """Return the variant that serves a task, or None where nothing was trained for the base model.

    Args:
        base_sha256: hash of the base model's weights.
        task: the task at hand, None for prompts of no known task.
        variant: a variant's name; ``auto`` takes the one that never saw the task's problems, and ``full`` where they
            were in no source anyway, because a generator's use is what it does for prompts that it was not trained on.
        index: the index file; the shipped one when absent.

    Raises:
        InputError: the index is damaged, or has no such variant.
    """
    every = read_index(index or index_of())
    shelf = every.models.get(base_sha256) if every else None
    if shelf is None:
        return None
    by_name = {entry.name: entry for entry in shelf.variants}
    if variant != AUTO:
        if variant not in by_name:
            raise InputError(f"no variant {variant!r} of the generator for {shelf.name}; known: {', '.join(by_name)}")
        return by_name[variant]
    unseen = (entry for entry in shelf.variants if kept_from(task, entry.sources, entry.leaves_out))
    return next(unseen, None) or by_name.get(FULL)


def inside(index: Path, relative: str) -> Path:
    """Return a path that an index names.

    Raises:
        InputError: it leads out of the index's folder.
    """
    folder = index.parent.resolve()
    path = (folder / relative.replace("\0", "")).resolve()
    if not path.is_relative_to(folder) or "\0" in relative:
        raise InputError(f"{index}: {relative} lies outside of {folder}")
    return path
