"""The source tasks of a table: a consolidation's folder, or one laid out from what ships.

Baselines learn from the sources of the generator that serves a task.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

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
        InputError: the folder is no consolidation's, or another model's.
        UnavailableError: nobody knows sources for this model.
    """
    if options.consolidation is None:
        return Workshop(lay_out(options.pretrained, work, lm, encoder, progress), options.reward)
    opened = open_given(options.consolidation, options, progress)
    return Workshop(replace(opened, load_lm=lambda: lm, load_encoder=encoder), options.reward)


def trained_parts(options: TablesOptions) -> str | None:
    """Return the folder of trained parts that the project's own rows take; None for the shipped one."""
    return str(options.consolidation) if options.consolidation else options.pretrained
