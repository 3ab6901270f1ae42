"""The source tasks of a table: a consolidation's folder, or one laid out from what ships.

Baselines learn from the sources of the generator that serves a task; ADR 37 names the one that does not.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shlex import quote

from agent.train.files import read_json
from agent.train.generator.settings import Claim
from cao.errors import InputError
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.progress import Progress
from eval.generation.consolidation import lay_out, open_given
from eval.generation.workshop import Workshop
from eval.options import TablesOptions


def open_workshop(
    options: TablesOptions, work: Path, lm: LanguageModel, encoder: Callable[[], Encoder], progress: Progress
) -> Workshop:
    """Return a workshop on the sources, with a model that is loaded already.

    Args:
        options: the consolidation that they name, or the shipped parts.
        work: the table's folder.
        lm: the base model, undressed.
        encoder: loads the encoder.
        progress: called during long work.

    Raises:
        InputError: the folder is no consolidation's, another model's, or was made with another profile.
        UnavailableError: nobody knows sources for this model.
    """
    if options.consolidation is None:
        return Workshop(lay_out(options.pretrained, work, lm, encoder, progress), options.reward)
    opened = open_given(options.consolidation, options, progress)
    _check_profile(options.consolidation, options)
    return Workshop(replace(opened, load_lm=lambda: lm, load_encoder=encoder), options.reward)


def _check_profile(folder: Path, options: TablesOptions) -> None:
    """Refuse a folder whose questions were asked otherwise than this table's model is: one model answers all rows."""
    stated = read_json(folder / "config.json", Claim).get("profile") or {}
    given = options.profile.model_dump(mode="json", exclude_none=True)
    assert isinstance(stated, dict), "it was opened"
    if other := {key: value for key, value in stated.items() if given.get(key) != value}:
        words = " ".join(f"--set {quote(f'profile.{key}={json.dumps(value)}')}" for key, value in other.items())
        raise InputError(f"{folder} was made with settings over the model's profile; give them here, too: {words}")


def trained_parts(options: TablesOptions) -> str | None:
    """Return the folder of trained parts that the project's own rows take; None for the shipped one."""
    return str(options.consolidation) if options.consolidation else options.pretrained
