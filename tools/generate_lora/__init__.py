"""Generate: from a task's prompts to LoRA weights in one forward pass, without gradients.

Source: CAO-LLM §2.2, E.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from cao.errors import InputError
from cao.model.adapters import save_adapter
from cao.model.language_model import LanguageModel
from cao.model.profiles import MODELS, ModelProfile
from cao.types import AdapterRef, Record
from tools import pretrained
from tools.generate_lora.conditioning import Generator, PromptEncoder, condition
from tools.generate_lora.generator import TrainedGenerator, load_generator

__all__ = ["GenerationResult", "Generator", "find_generator", "generate_lora", "how_to_train"]


class GenerationResult(Record):
    """What came of generating.

    Attributes:
        adapter: the generated adapter, or None.
        reason: why there is none, in one sentence; empty where there is one.
        command: how the missing generator is trained; empty where there is one.
        caveats: what limits the adapter, in sentences without their full stop.
        kept: positions of the prompts that it was made from; blank and repeated ones are left out.
    """

    adapter: AdapterRef | None
    reason: str = ""
    command: str = ""
    caveats: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()


def how_to_train(profile: ModelProfile) -> str:
    """Return how generator and aligner are trained for a base model, for people: what ``agent.consolidate`` takes."""
    if profile.name in MODELS:
        return f"run: python -m agent.consolidate --model {profile.name} --preset {profile.preset}"
    return f"run: python -m agent.consolidate --model {profile.source} --install"


def find_generator(
    base_sha256: str, task: str | None = None, variant: str = pretrained.AUTO, index: Path | None = None
) -> TrainedGenerator | None:
    """Return the trained generator for a base model and task, or None where none has been trained.

    Args:
        base_sha256: hash of the base model's weights.
        task: the task at hand, None for prompts of no known task.
        variant: ``auto``, or a variant's name (see ``pretrained.choose``).
        index: the list of what is shipped; absent where nothing is.

    Raises:
        InputError: the index or the generator is damaged, or the file is not the one that the index lists.
    """
    index = index or pretrained.index_of()
    chosen = pretrained.choose(base_sha256, task, variant, index)
    if chosen is None:
        return None
    path = pretrained.inside(index, chosen.generator.path)
    generator = load_generator(path, base_sha256)
    if generator.sha256 != chosen.generator.sha256:
        listed = chosen.generator.sha256[:12]
        raise InputError(f"{path}: this is generator {generator.sha256[:12]}, {index.name} lists {listed}")
    return generator


def generate_lora(
    prompts: Sequence[str],
    *,
    lm: LanguageModel,
    store: Path,
    encoder: PromptEncoder,
    generator: Generator | None,
    lap: Callable[[str], None] = lambda part: None,
) -> GenerationResult:
    """Generate an adapter from the prompts of a task.

    Args:
        prompts: texts of one task.
        lm: the base model.
        store: folder that the adapter is written to.
        encoder: what the prompts are encoded by.
        generator: what makes it, None where none was trained for this base model.
        lap: called with ``encode`` and ``generate`` when each is done.

    Returns:
        The stored adapter; without a trained generator none, but the reason and how one is trained.

    Raises:
        InputError: no prompt can be used, or the generator reads another encoder's states.

    Source: CAO-LLM §2.2, E.
    """
    if generator is None:
        command = how_to_train(lm.profile)
        reason = f"no trained generator exists for the base model {lm.profile.name}"
        return GenerationResult(adapter=None, reason=reason, command=command)
    conditioning = condition(prompts, generator, encoder)
    lap("encode")
    adapter = save_adapter(store, conditioning.adapter(), lm.source)
    lap("generate")
    return GenerationResult(adapter=adapter, caveats=conditioning.caveats, kept=conditioning.kept)
