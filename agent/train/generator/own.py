"""A user's own files among the sources of a consolidation: what they are called, and what they add."""

from collections.abc import Sequence
from pathlib import Path

from agent.train.generator.presets import EVALUATED
from cao.errors import InputError
from cao.files import is_path, sha256_file, sha256_folder
from cao.tasks import get_task
from cao.tasks.prompt_text import letters_and_digits
from cao.tasks.splits import training_examples
from cao.types import Example, Record

PRESETS_OWN = "preset"
"""Stands for the preset's own sources in a list of others."""

VALIDATION = 10
"""Of so many training questions one is kept from all training and only measured on, with its twins."""

SHARED = 0.05
"""Share of a source's questions that may be a reported task's; they are left out. A source with more is refused."""


def parted(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Return the training questions that are trained on, and those only measured on: no twin of one is on both sides.

    Args:
        examples: of a source, in its order. Every tenth one begins what is held back; questions of a group go together.
    """
    numbers = dict[str, int]()
    held = [numbers.setdefault(one.group or one.id, len(numbers)) % VALIDATION == 0 for one in examples]
    sides = ([one for one, kept in zip(examples, held, strict=True) if kept == side] for side in (False, True))
    trained, measured = sides
    return trained, measured


class Added(Record):
    """What a file adds to a consolidation.

    Attributes:
        file: its path, as it was given.
        questions: with choices, in the file.
        left_out: because a reported task has them too, or because a source gives no more than so many.
        trained: trained on.
        measured: kept from all training and only measured on.
    """

    file: str
    questions: int
    left_out: int
    trained: int
    measured: int


def named(given: Sequence[str], presets: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the sources' names, and the file of each that is a file.

    Args:
        given: names of tasks, files, and ``preset`` for the preset's own sources.
        presets: those.

    Raises:
        InputError: a file cannot be read, has no answers or no choices, or its name is another one's too.
    """
    names, files = list[str](), dict[str, str]()
    for source in given:
        if source == PRESETS_OWN:
            names += [name for name in presets if name not in names]
            continue
        if is_path(source):
            task = get_task(source)
            if not task.labelled:
                raise InputError(f"sources: {source} has no answers to learn from")
            if not task.load()[0].choices:
                raise InputError(f"sources: {source} has no choices; a generator learns to choose among them")
            if files.setdefault(task.name, source) != source:
                raise InputError(f"sources: {files[task.name]} and {source} are tasks of one name; rename a file")
        names.append(task.name if is_path(source) else source)
    return tuple(names), files


def hashes(files: dict[str, str]) -> dict[str, str]:
    """Return the hash of each file's content, or of a saved data set's folder."""
    places = {name: Path(place) for name, place in files.items()}
    return {name: sha256_folder(place) if place.is_dir() else sha256_file(place) for name, place in places.items()}


def fingerprint(example: Example) -> str:
    """Return a question's letters and digits: equal for questions that differ in case, spaces and signs."""
    return letters_and_digits(example.prompt)


def reported_questions() -> dict[str, set[str]]:
    """Return the questions of each task that results are reported on, as ``fingerprint`` gives them."""
    return {task: {fingerprint(example) for example in get_task(task).load()} for task in EVALUATED}


def unshared(task: str, examples: Sequence[Example], reported: dict[str, set[str]]) -> list[Example]:
    """Return the examples of a source that no other task, among those reported, has too.

    Args:
        task: the source.
        examples: its questions.
        reported: task → the fingerprints of its questions.

    Raises:
        InputError: the source shares more than a few questions with one of them.
    """
    marked = [(fingerprint(example), example) for example in examples]
    others = {name: known for name, known in reported.items() if name != task}
    for name, known in others.items():
        shared = sum(mark in known for mark, _ in marked)
        if shared > SHARED * len(marked):
            raise InputError(
                f"{task} cannot be a source: {shared} of its {len(marked)} questions are {name}'s, which results are "
                "reported on"
            )
    return [example for mark, example in marked if not any(mark in known for known in others.values())]


def chosen(place: str, name: str, reported: dict[str, set[str]], most: int) -> list[Example]:
    """Return the questions that a source gives: with choices, none of them a reported task's.

    Args:
        place: the task's name, or the file.
        name: the source's.
        reported: task → the fingerprints of its questions.
        most: questions of a source, at most.

    Raises:
        InputError: as ``unshared``.
        UnavailableError: the task's source is not at hand.
    """
    usable = [example for example in training_examples(get_task(place)) if example.choices]
    return unshared(name, usable, reported)[:most]


def added(files: dict[str, str], most: int) -> dict[str, Added]:
    """Return what each file adds.

    Args:
        files: name → file.
        most: questions of a source, at most.

    Raises:
        InputError: a file shares too many questions with a task that results are reported on, or has too few.
        UnavailableError: a reported task is not at hand.
    """
    reported, found = reported_questions() if files else {}, dict[str, Added]()
    for name, place in files.items():
        every, kept = len(get_task(place).load()), chosen(place, name, reported, most)
        check_enough(name, kept)
        trained, measured = map(len, parted(kept))
        found[name] = Added(file=place, questions=every, left_out=every - len(kept), trained=trained, measured=measured)
    return found


def check_shared(tasks: Sequence[str]) -> None:
    """Raise InputError where one of the known tasks has too many questions of one that results are reported on."""
    reported = reported_questions() if tasks else {}
    for task in tasks:
        unshared(task, [example for example in training_examples(get_task(task)) if example.choices], reported)


def check_enough(name: str, examples: Sequence[Example]) -> None:
    """Raise InputError where a source has not even a question to train on and one to measure on."""
    if len(examples) < 2:
        raise InputError(f"{name} has {len(examples)} training questions with choices; 2 are the least")
