"""What a family's kernel gets besides the strategy."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cao.model.adapters import LoraWeights, load_adapter, save_adapter
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.progress import Progress
from cao.types import AdapterRef
from tools.generate_lora import Generator


@dataclass(frozen=True)
class Inputs:
    """What the families act on; the attributes are ``apply_strategy``'s arguments.

    Attributes:
        prompts: the unlabelled support prompts.
        adapter: the current adapter, None for the plain base model.
        seed: of everything random.
        lm: the base model, undressed.
        store: folder for adapters and routing files.
        generator: makes adapters, None where there is none.
        encoder: makes the prompts' token states where they are not given.
        states: the prompts' token states (N, L, C) and mask (N, L), where they are known.
        checkpoint: file that a killed training goes on from.
        progress: told about long work.
    """

    prompts: list[str]
    adapter: AdapterRef | None
    seed: int
    lm: LanguageModel
    store: Path
    generator: Generator | None
    encoder: Encoder | None
    states: tuple[Tensor, Tensor] | None
    checkpoint: Path | None
    progress: Progress

    def conditioning(self) -> tuple[Tensor, Tensor]:
        """Return the prompts' token states and mask; they are encoded here only where nobody has yet."""
        if self.states is not None:
            return self.states
        if self.encoder is None:
            raise ValueError("the prompts' token states are needed, or the encoder that makes them")
        return self.encoder.condition(self.prompts)

    def current(self) -> LoraWeights | None:
        """Return the current adapter's weights, None for the plain base model."""
        return load_adapter(Path(self.adapter.path), self.lm.sha256) if self.adapter else None

    def keep(self, weights: LoraWeights) -> AdapterRef:
        """Write an adapter to the store."""
        return save_adapter(self.store, weights, self.lm.source)
