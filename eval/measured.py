"""What every measured table begins with: the command behind it, the day, and the model."""

import time

from cao.model.language_model import LanguageModel
from cao.types import Record


class Measured(Record):
    """The head of a table's figures.

    Attributes:
        command: that measured it.
        table: its name, or its number in the paper.
        measured: the day, UTC.
        model: profile of the model that is adapted.
        model_sha256: hash of its weights.
        device: torch device.
        dtype: what the model computed in.
    """

    command: str
    table: str
    measured: str
    model: str
    model_sha256: str
    device: str
    dtype: str


def measured_with(lm: LanguageModel, command: str, table: str) -> Measured:
    """Return the head of what was measured with a model today.

    Args:
        lm: the model.
        command: that asked for it.
        table: its name.
    """
    return Measured(
        command=command,
        table=table,
        measured=time.strftime("%Y-%m-%d", time.gmtime()),
        model=lm.profile.name,
        model_sha256=lm.sha256,
        device=str(lm.device),
        dtype=lm.dtype,
    )
