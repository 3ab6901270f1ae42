"""A user's own task: a file, checked to the last line before anything is computed.

JSONL with this project's own names is one object a line: ``question``, ``choices`` (a list of different texts) and
``answer`` (a 0-based index, a letter, or a choice's text), or ``question`` and ``answer`` (text or number; of a worked
answer that ends in ``#### 18`` only the end counts); ``context`` is optional. ``cao.tasks.files`` reads other formats
and other names, too. A key that looks like a misspelt name is refused: ``choises`` would silently turn a question into
free text. One file holds one kind, because one protocol and one reward serve the whole task. Repeats of a question with
the same answer are dropped, with another answer they are an error; questions are the same if they read the same, so
case, signs and superscripts tell them apart. A file without any answer is a task without labels.
"""

import re
from collections.abc import Container
from pathlib import Path

from cao.errors import InputError
from cao.tasks.base import LETTERS, Task, grade_letter, lettered, plain
from cao.tasks.files import read_examples
from cao.tasks.files.keys import KeyMap
from cao.tasks.graders import build_grader
from cao.tasks.numerals import as_number


def load_user_task(path: Path, reserved: Container[str] = (), *, keys: str = "", grader: str = "auto") -> Task:
    """Read and check a file and return it as a task, named after the file.

    Args:
        path: the file, or the folder of a saved data set.
        reserved: names that the task may not take.
        keys: what the user said of its keys, as ``KeyMap.parse`` takes it.
        grader: how free-text answers are judged, as ``build_grader`` takes it.

    Raises:
        InputError: the file cannot be read, or a line is wrong; the message is ``FILE:LINE: reason``.
    """
    examples, reading = read_examples(path, KeyMap.parse(keys))
    labelled = examples[0].labelled
    numeric = labelled and all(as_number(example.gold_text) is not None for example in examples)
    free = not examples[0].choices
    if grader != "auto" and not free:
        raise InputError(f"--grader {grader}: {path.name} has choices, which are ranked; graders are for free text")
    return Task(
        name=task_name(path, reserved),
        title=path.name,
        source=f"the user's file {path.name}",
        load=lambda: list(examples),
        ask=(lambda example: plain(example.prompt)) if free else lettered,
        grade=build_grader(grader, examples if labelled else []) if free else grade_letter,
        gold=(lambda example: example.gold_text) if free else (lambda example: LETTERS[example.answer]),
        max_new_tokens=256 if free and numeric else 48 if free else 16,
        stop=("\nQuestion:",) if free and numeric else ("\nQuestion:", "\n\n"),
        has_train=False,
        reading=reading,
        labelled=labelled,
    )


def task_name(path: Path, reserved: Container[str] = ()) -> str:
    """Return a task name made from a file's: lower case, other signs as hyphens, at most 64 characters."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_")[:59].rstrip("-_") or "file"
    return f"{plain}-file" if plain in reserved else plain
