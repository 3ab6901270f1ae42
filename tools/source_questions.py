"""Which questions trained parts learnt from: a hash for each, so that nobody needs the texts to compare them.

The file lies beside the generators; the index names it. Questions are the same if their letters and digits are.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch

from cao.errors import InputError
from cao.files import sha256_bytes
from cao.sealed import Header, read_sealed, write_sealed
from cao.tasks.prompt_text import letters_and_digits
from tools.pretrained import Shelf, Variant, inside

FILE = "questions.safetensors"


class QuestionsHeader(Header):
    """Of a file with an int64 tensor a source: eight bytes of each question's hash, sorted."""

    what: ClassVar[str] = "a list of source questions"
    format: int = 1


def question_hash(prompt: str) -> int:
    """Return the first eight bytes of the hash of a prompt's letters and digits, as a signed number."""
    return int.from_bytes(bytes.fromhex(sha256_bytes(letters_and_digits(prompt).encode())[:16]), "big", signed=True)


def write_questions(path: Path, sources: Mapping[str, Iterable[str]]) -> str:
    """Write the hashes of the sources' questions and return the file's own hash.

    Args:
        path: the file.
        sources: source → the prompts that it gave.
    """
    hashes = {name: sorted({question_hash(prompt) for prompt in prompts}) for name, prompts in sources.items()}
    tensors = {name: torch.tensor(each, dtype=torch.int64) for name, each in hashes.items()}
    return write_sealed(path, QuestionsHeader(), tensors)


def read_questions(path: Path, sha256: str) -> dict[str, frozenset[int]]:
    """Return the hashes of each source's questions.

    Raises:
        InputError: the file is damaged, or not the one that the index lists.
    """
    _, tensors, found = read_sealed(path, QuestionsHeader)
    if found != sha256:
        raise InputError(f"{path}: these are questions {found[:12]}, the index lists {sha256[:12]}")
    return {name: frozenset(tensor.tolist()) for name, tensor in tensors.items()}


def shared(prompts: Sequence[str], shelf: Shelf, variant: Variant, index: Path) -> int | None:
    """Return how many of the prompts a variant was trained on, None where the index does not say what it learnt from.

    Args:
        prompts: texts of questions; those without letters and digits count as new.
        shelf: of the base model.
        variant: one of its own.
        index: the index file.

    Raises:
        InputError: the list of questions is missing or damaged.
    """
    if shelf.questions is None:
        return None
    known = read_questions(inside(index, shelf.questions.path), shelf.questions.sha256)
    if not _covers(known, variant.sources):
        return None
    learnt = frozenset[int]().union(*(known[source] for source in variant.sources))
    return sum(bool(letters_and_digits(prompt)) and question_hash(prompt) in learnt for prompt in prompts)


def _covers(known: Collection[str], sources: Iterable[str]) -> bool:
    return all(source in known for source in sources)
