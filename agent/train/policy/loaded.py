"""What all situations share: models, loaded once in a process, with the adapter that the deployed model carries."""

from dataclasses import dataclass
from pathlib import Path

from agent.config import RunConfig
from cao.machine.assets import minilm_folder
from cao.model.adapters import LoraWeights
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.model.start_adapter import attach_adapter
from cao.progress import Progress
from tools.evaluate import HiddenCache


@dataclass(frozen=True)
class Loaded:
    """What is loaded once for all situations.

    Attributes:
        folder: of all situations.
        config: of the runs that situations stand for; the task and the seed are the situations' own.
        lm: the language model.
        carried: the adapter that the deployed model carries, as a run has it; None where there is none or it is merged.
        encoder: the frozen encoder.
        states: hidden states kept between measurements.
        progress: shows long work.
    """

    folder: Path
    config: RunConfig
    lm: LanguageModel
    carried: LoraWeights | None
    encoder: Encoder
    states: HiddenCache
    progress: Progress


def load_once(folder: Path, config: RunConfig, progress: Progress) -> Loaded:
    """Load what situations share.

    Args:
        folder: of all situations.
        config: of the runs that they stand for.
        progress: shows long work.

    Raises:
        InputError: a start adapter that is not the model's.
        UnavailableError: something needed is not at hand.
    """
    lm = load_model(config)
    carried = attach_adapter(lm, Path(config.start_adapter)) if config.start_adapter else None
    return Loaded(folder, config, lm, carried, Encoder(minilm_folder(), lm.device), HiddenCache(), progress)
