"""The tasks: one file each, one line each in ``TASKS``; a user's own file is a task too.

To add one, write a file with a ``Task`` and add it to the tuple below; those to practise on are made from the tables of
``practice``. Nothing is read before a task's ``load`` is called.
"""

import difflib
import os
from pathlib import Path

from cao.errors import InputError
from cao.tasks import (
    arc,
    boolq,
    codemmlu,
    commonsense_qa,
    competition_math,
    divlogiceval,
    gsm8k,
    hellaswag,
    jama,
    medqa,
    mmlu,
    openbookqa,
    piqa,
    practice,
    sciq,
    social_iqa,
    winogrande,
)
from cao.tasks.base import Task
from cao.tasks.files import SUFFIXES
from cao.tasks.question_file import load_user_task
from cao.types import Example

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        arc.CHALLENGE,
        arc.EASY,
        hellaswag.TASK,
        boolq.TASK,
        piqa.TASK,
        winogrande.TASK,
        gsm8k.TASK,
        competition_math.TASK,
        divlogiceval.TASK,
        social_iqa.TASK,
        codemmlu.TASK,
        jama.TASK,
        mmlu.MMLU_LOGIC,
        mmlu.MMLU_CS,
        medqa.TASK,
        commonsense_qa.TASK,
        openbookqa.TASK,
        sciq.TASK,
        mmlu.MATH,
        mmlu.PHYSICS,
        mmlu.CHEMISTRY,
        mmlu.BIOLOGY,
        mmlu.MEDICINE,
        mmlu.HISTORY,
        mmlu.LAW,
        mmlu.ECONOMICS,
        mmlu.PSYCHOLOGY,
        mmlu.PHILOSOPHY,
        mmlu.POLITICS,
        mmlu.BUSINESS,
        mmlu.GENERAL,
    )
}

PRACTICE: dict[str, Task] = {**practice.EMBEDDED, **practice.GENERATED}
"""Tasks to practise on; ``--task`` takes them too, but they are listed apart."""


def get_task(name_or_path: str, *, keys: str = "", grader: str = "auto") -> Task:
    """Return the task of a name, or of a user's file, which is read and checked at once.

    Args:
        name_or_path: a name of ``TASKS`` or ``PRACTICE``; anything else that ends like a file of questions or is one.
        keys: what the user said of the file's keys.
        grader: how free-text answers of the file are judged.

    Raises:
        InputError: there is no such task or file, or a line of the file is wrong.
    """
    named = TASKS | PRACTICE
    if name_or_path in named:
        if keys or grader != "auto":
            raise InputError(f"--map and --grader are for a file of your own; {name_or_path} has its own")
        return named[name_or_path]
    path = Path(name_or_path)
    if name_or_path.lower().endswith(SUFFIXES) or _exists(path):
        return load_user_task(path, reserved=named, keys=keys, grader=grader)
    if os.sep in name_or_path or path.suffix:
        raise InputError(f"{name_or_path[:256]}: no such file")
    close = difflib.get_close_matches(name_or_path[:64].lower(), named, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(TASKS))};"
    raise InputError(
        f"no task is called {name_or_path[:64]!r}: {hint} for your own questions give a file FILE.jsonl "
        "with question, choices and answer on each line, or CSV, JSON, Parquet"
    )


def get_prompts(name_or_path: str) -> list[Example]:
    """Return the prompts of a name, or of a user's file, without answers: those of a file are not even read.

    Args:
        name_or_path: as ``get_task`` takes it.

    Raises:
        InputError: there is no such task or file, or a line of the file is wrong.
        UnavailableError: the task's source is not at hand.
    """
    named = (TASKS | PRACTICE).get(name_or_path)
    examples = (named or get_task(name_or_path, keys="answer=")).load()
    nothing = {"labelled": False, "answer": -1, "gold_text": "", "accepted": ()}
    return [example.model_copy(update=nothing) for example in examples]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for the file system is no file
        return False
