"""Why a table has no figure in a place, in words: what is not at hand, or a defect with the command that shows it."""

import traceback
from pathlib import Path

from agent.train.engine.work import RETRIES, WorkerDiedError
from cao.errors import CaoError

APART = "--out runs/again"
"""Ends a command that measures a part of a table again: the page of the whole table stays."""


def reason(error: Exception, command: str) -> str:
    """Return why there is no figure; a defect of one method does not cost the others.

    Args:
        error: what making or measuring it raised.
        command: measures it alone; ``APART`` is put behind it.
    """
    if isinstance(error, WorkerDiedError):
        return f"crashed: {RETRIES + 1} workers died at it (was memory short?); alone: {command} {APART}"
    if isinstance(error, CaoError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}"
    return f"crashed: {type(error).__name__}: {error} ({where}); alone: {command} {APART}"
