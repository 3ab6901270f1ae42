"""What a family's kernel gets besides the strategy."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.model.soft_prompt.either import Carried, load_carried, save_carried
from cao.progress import Progress
from cao.types import AdaptedModel, AdapterRef
from tools.generate_lora.conditioning import Conditioning, Generator, PromptEncoder, condition


@dataclass(frozen=True)
class Inputs:
    """What the families act on; the attributes are ``apply_strategy``'s arguments.

    Attributes:
        prompts: the unlabelled support prompts, or those about to be answered.
        current: the model that the strategy builds on.
        seed: of everything random.
        lm: the base model, undressed.
        store: folder for adapters and routing files.
        generator: makes adapters, None where there is none.
        pool: hash → adapter at hand besides the current one.
        encoder: encodes the prompts for the generator, None where nothing is generated.
        checkpoint: file that a killed training goes on from.
        progress: called during long work.
    """

    prompts: list[str]
    current: AdaptedModel
    seed: int
    lm: LanguageModel
    store: Path
    generator: Generator | None
    pool: Mapping[str, LoraWeights]
    encoder: PromptEncoder | None
    checkpoint: Path | None
    progress: Progress

    def conditioning(self) -> Conditioning:
        """Return what the generator reads of the prompts, those left out that no adapter is made from."""
        if self.generator is None or self.encoder is None:
            raise ValueError("adapters are made by a generator, from what the encoder gives")
        return condition(self.prompts, self.generator, self.encoder)

    def weights(self) -> Carried | None:
        """Return the weights of the one current adapter, None for the plain base model."""
        (adapter,) = self.current.members
        return load_carried(Path(adapter.path), self.lm.sha256) if adapter else None

    def keep(self, weights: Carried) -> AdapterRef:
        """Write an adapter to the store."""
        return save_carried(self.store, weights, self.lm.source)

    def under_one(self, adapter: AdapterRef, note: str) -> AdaptedModel:
        """Return the current model with a single adapter in the place of what members it has."""
        return self.current.model_copy(update={"members": (adapter,), "method": None, "centroids": None, "note": note})
