"""Apply: turn a strategy and the unlabelled prompts into an adapted model. A family has a kernel file each.

What a family is, its schema, bounds and needs, is its class in ``cao.strategies``, which names its kernel here: the
policies read the class, and neither import torch nor know the tools.

Source: CAO-LLM §2.4 (Operating), G.1-G.6.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType

from cao.errors import NotApplicableError
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.progress import Progress, silent
from cao.strategies import FAMILIES, Standing, Strategy
from cao.types import AdaptedModel
from tools.apply_strategy.inputs import Inputs
from tools.generate_lora.conditioning import Generator, PromptEncoder

__all__ = ["applicable", "apply_strategy", "kernel"]

Kernel = Callable[[Strategy, Inputs], AdaptedModel]
"""What applies a family; it gets a strategy of its own family only."""


def kernel(family: type[Strategy]) -> Kernel:
    """Return the function that a family names as its kernel."""
    kernel: Kernel = resolve_name(family.kernel)
    return kernel


def applicable(standing: Standing) -> dict[str, str | None]:
    """Return, for each family, None where it can act now, or the reason why not, in one sentence."""
    return {name: family.obstacle(standing) for name, family in FAMILIES.items()}


def apply_strategy(
    strategy: Strategy,
    prompts: list[str],
    standing: Standing,
    seed: int,
    *,
    lm: LanguageModel,
    store: Path,
    generator: Generator | None = None,
    pool: Mapping[str, LoraWeights] = MappingProxyType({}),
    encoder: PromptEncoder | None = None,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> AdaptedModel:
    """Apply one strategy to the current model; the base weights are never written, new ones go to the store.

    Args:
        strategy: what to apply.
        prompts: the unlabelled support prompts, or the unlabelled questions about to be answered where the strategy
            is transductive.
        standing: the current model, which the result builds on, and what can be relied on.
        seed: of everything random in it; equal arguments give an equal result.
        lm: the base model, undressed.
        store: folder for adapters and routing files.
        generator: makes TTS's adapters.
        pool: hash → adapter that may answer beside the base model and the current one.
        encoder: encodes the prompts for the generator; needed with it.
        checkpoint: file that a killed TTL goes on from.
        progress: called during long work.

    Returns:
        What to score with; ``note`` says in one sentence what was done.

    Raises:
        NotApplicableError: the strategy has nothing to act on at present, or diverges.
        InputError: the current adapter or the checkpoint cannot be used.

    Source: CAO-LLM §2.4, G.1-G.6.
    """
    refusal = strategy.refusal(standing)
    if refusal:
        raise NotApplicableError(refusal)
    inputs = Inputs(prompts, standing.current, seed, lm, store, generator, pool, encoder, checkpoint, progress)
    return kernel(type(strategy))(strategy, inputs)
