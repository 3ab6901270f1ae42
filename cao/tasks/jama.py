"""JAMA Clinical Challenge: cases from a medical journal, under a licence that forbids passing them on.

Whoever has access to the journal obtains the questions with the authors' own scraper and puts its output in
place.
"""

import json
from pathlib import Path

from cao.errors import InputError, UnavailableError
from cao.machine.assets import cache_dir
from cao.tasks.base import LETTERS, Task, choice_example
from cao.tasks.sources import Row, usable
from cao.types import Example

SCRAPER = "https://github.com/HanjieChen/ChallengeClinicalQA"
OPTIONS = ("opa", "opb", "opc", "opd")


def data_file() -> Path:
    """Return where the scraper's ``jama_raw.json`` is looked for."""
    return cache_dir() / "data" / "jama_raw.json"


def convert(row: Row) -> Example:
    """Return one case.

    Args:
        row: ``question``, ``opa`` to ``opd`` and ``answer_idx``, a letter.
    """
    return choice_example(
        row["question"], [row[option] for option in OPTIONS], LETTERS.index(row["answer_idx"].strip())
    )


def load() -> list[Example]:
    """Return the cases of the scraper's file.

    Raises:
        UnavailableError: the file is not there.
        InputError: it is not what the scraper writes.
    """
    path = data_file()
    if not path.is_file():
        raise UnavailableError(
            "the JAMA Clinical Challenge may not be passed on: write jama_raw.json with the scraper of "
            f"{SCRAPER} and put it at {path}, or run with --task FILE.jsonl (question, choices, answer on "
            "each line)"
        )
    try:
        return usable(convert(row) for row in json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: not the scraper's file ({type(error).__name__}: {str(error)[:80]}); expected a JSON "
            "list of objects with question, opa, opb, opc, opd and answer_idx"
        ) from None


TASK = Task(
    name="jama",
    title="JAMA Clinical Challenge (difficult clinical cases)",
    source=f"JAMA Clinical Challenge, from the user's own file, written by the scraper of {SCRAPER}",
    load=load,
    description=(
        "This task presents demanding clinical cases from a medical journal. Each gives a patient's "
        "history, findings and test results at length and asks for the diagnosis or for what to do next. "
        "Four options are offered, often long, and all of them would be reasonable in a similar case. "
        "Success takes specialist knowledge from many fields of medicine and careful weighing of the "
        "details."
    ),
)
