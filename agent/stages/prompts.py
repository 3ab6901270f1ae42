"""The prompts that an adapter is made from: all of them checked before anything is computed."""

from pathlib import Path

from cao.errors import InputError
from cao.tasks import prompt_file
from cao.tasks.prompt_file import Asked

MAX_PROMPTS = 5000
"""As many as a run takes for its support part; their token states fill 0.6 MB each."""


def read_prompts(path: Path) -> list[Asked]:
    """Return the prompts of a file, all of its lines checked before anything is computed.

    Args:
        path: a line is a prompt or a JSON list of prompts.

    Raises:
        InputError: the file cannot be read, a line is something else, or there are no prompts or too many.
    """
    return enough(prompt_file.read_prompts(path), str(path))


def enough(prompts: list[Asked], path: str) -> list[Asked]:
    """Return prompts of which there are enough, and not too many.

    Args:
        prompts: of one task.
        path: what they are from, for messages.

    Raises:
        InputError: there are none or too many.
    """
    if not prompts:
        raise InputError(f"{path}: holds no prompt")
    if len(prompts) > MAX_PROMPTS:
        raise InputError(f"{path}: {len(prompts)} prompts; {MAX_PROMPTS} at most")
    return prompts
