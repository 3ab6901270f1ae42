"""Align: move a generated adapter towards the target task in one forward pass, without gradients.

Source: CAO-LLM §2.3, F.
"""

from pathlib import Path
from typing import Protocol

from cao.errors import InputError, NotApplicableError
from cao.model.adapters import LoraWeights, load_adapter, save_adapter
from cao.model.language_model import LanguageModel
from cao.types import AdapterRef, Record
from tools import pretrained
from tools.align_lora.aligner import TrainedAligner
from tools.align_lora.aligner_file import load_aligner
from tools.align_lora.task_vector import condition
from tools.generate_lora import how_to_train
from tools.generate_lora.tokens import TokenLayout

__all__ = ["AlignmentResult", "SourceGenerator", "align_lora", "find_aligner"]


class SourceGenerator(Protocol):
    """What an aligner has to know of the generator that it works behind."""

    @property
    def layout(self) -> TokenLayout:
        """The order of an adapter's weights."""
        ...

    @property
    def initial(self) -> LoraWeights:
        """The recorded LoRA initialisation."""
        ...

    @property
    def base_sha256(self) -> str:
        """Hash of the base model."""
        ...

    @property
    def sha256(self) -> str:
        """Hash of the generator, as the index states it."""
        ...


class AlignmentResult(Record):
    """What came of aligning.

    Attributes:
        adapter: the aligned adapter, or None.
        reason: why there is none, in one sentence; empty where there is one.
        command: how the missing part is trained; empty where no part is missing.
    """

    adapter: AdapterRef | None
    reason: str = ""
    command: str = ""


def find_aligner(generator: SourceGenerator, index: Path | None = None) -> TrainedAligner | None:
    """Return the aligner that was trained behind a generator, or None where there is none.

    It is looked up by the generator's hash: a choice of its own, by task or variant, could pick one that was trained
    on another generator's weights, or on a task that the generator was kept from.

    Args:
        generator: the generator in use.
        index: the list of what is shipped; absent where nothing is.

    Raises:
        InputError: the index or the aligner is damaged, or the aligner is not the one that the index lists.
    """
    index = index or pretrained.index_of()
    every = pretrained.read_index(index)
    shelf = every.models.get(generator.base_sha256) if every else None
    variants = shelf.variants if shelf else ()
    listed = next((v.aligner for v in variants if v.generator.sha256 == generator.sha256), None)
    if listed is None:
        return None
    path = pretrained.inside(index, listed.path)
    aligner = load_aligner(path, generator.layout, generator.initial, generator_sha256=generator.sha256)
    if aligner.sha256 != listed.sha256:
        raise InputError(f"{path}: this is aligner {aligner.sha256[:12]}, {index.name} lists {listed.sha256[:12]}")
    return aligner


def align_lora(
    generated: AdapterRef | None,
    prompts: list[str],
    *,
    lm: LanguageModel,
    store: Path,
    aligner: TrainedAligner | None = None,
    variant: str | None = None,
) -> AlignmentResult:
    """Align a generated adapter to the task that the prompts come from.

    Args:
        generated: what the generator made, None where it made nothing.
        prompts: the target's prompts as the model reads them; the task vector is made from them alone.
        lm: the base model, without an adapter.
        store: folder that the adapter is written to.
        aligner: that was trained behind the generator, None where there is none.
        variant: name of the shipped generator that made ``generated``; it is named where no aligner is behind it.

    Returns:
        The stored adapter; where there is none, the reason, and how a missing part is trained.

    Raises:
        InputError: the adapter or the aligner is damaged or belongs to something else.

    Source: CAO-LLM §2.3, F.
    """
    command = how_to_train(lm.profile)
    if generated is None:
        return AlignmentResult(adapter=None, reason="there is no generated adapter to align", command=command)
    if aligner is None and variant:
        return AlignmentResult(adapter=None, reason=f"no aligner was trained behind generator “{variant}”")
    if aligner is None:
        reason = f"no trained aligner exists for the base model {lm.profile.name}"
        return AlignmentResult(adapter=None, reason=reason, command=command)
    weights = load_adapter(Path(generated.path), lm.sha256)
    try:
        limit, whole = aligner.header.vector_prompts, aligner.reads_base_state
        vector = condition(lm, weights, prompts, limit, with_base_state=whole)
    except NotApplicableError as error:
        return AlignmentResult(adapter=None, reason=str(error))
    return AlignmentResult(adapter=save_adapter(store, aligner.align(weights, vector), lm.source))
