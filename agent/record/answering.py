"""How a run asked its questions: what it takes to ask others in the same way, besides weights and run.json."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from agent.record.wording import one_line
from cao.configuration import explain
from cao.errors import InputError
from cao.files import write_json
from cao.types import Record

ANSWERING_FILE = "answering.json"
MOST_BYTES = 4_000_000
"""Of a small JSON file that comes from elsewhere."""


class Answering(Record):
    """How questions are asked, and what is known of their choices without them.

    Attributes:
        chat: whether written answers are asked for by the model's chat template.
        max_new_tokens: budget of one written answer.
        stop: texts that end one.
        neutral: behind how many neutral questions the prior ``choice`` is read.
        priors: an adapter each, choice → log of its mean probability over the unlabelled prompts, nats; empty where the
            answer rule takes no such prior off.
    """

    chat: bool = False
    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 48
    stop: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(max_length=16)] = ()
    neutral: Literal[1, 3] = 3
    priors: Annotated[tuple[dict[str, float], ...], Field(max_length=256)] = ()


def write_answering(folder: Path, answering: Answering) -> None:
    """Write it into a run's folder."""
    write_json(folder / ANSWERING_FILE, answering.model_dump(mode="json"))


def read_answering(folder: Path) -> Answering | None:
    """Return how a run asked its questions, None for a run of a version that did not keep it.

    Raises:
        InputError: the file is damaged.
    """
    file = folder / ANSWERING_FILE
    if not file.exists():
        return None
    try:
        return Answering.model_validate_json(small_file(file))
    except ValidationError as error:
        raise InputError(f"{file}: damaged; {one_line(explain(error), 200)}; do the run again") from None


def small_file(file: Path) -> bytes:
    """Return the content of a small file.

    Raises:
        InputError: it cannot be read, or is too large.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    if len(content) > MOST_BYTES:
        raise InputError(f"{file}: larger than {MOST_BYTES // 1_000_000} MB; it is no file of this project")
    return content
