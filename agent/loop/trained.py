"""The trained parts of stages 1 and 2 that serve a base model, looked up once and passed around together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cao.errors import InputError
from cao.model.adapters import LoraWeights, adapter_sha256, load_adapter
from cao.model.language_model import LanguageModel
from cao.tasks.same_problems import saw
from tools import pretrained
from tools.align_lora import find_aligner
from tools.align_lora.aligner import TrainedAligner
from tools.generate_lora import find_generator
from tools.generate_lora.generator import TrainedGenerator
from tools.source_questions import shared


@dataclass(frozen=True)
class Trained:
    """What makes adapters from prompts; empty where nothing was trained for the base model.

    Attributes:
        generator: from prompts to an adapter.
        aligner: from a generated adapter to an aligned one.
        variant: which of the trained generators, by the index.
        sources: the tasks that it was trained on.
        saw_task: whether the task at hand was among them by its name, or one of the same problems in other words; None
            where no task was named or nothing was trained.
        saw_questions: how many of the questions at hand it was trained on, None where that is not known.
        own: the user's adapters.
    """

    generator: TrainedGenerator | None = None
    aligner: TrainedAligner | None = None
    variant: str | None = None
    sources: tuple[str, ...] = ()
    saw_task: bool | None = None
    saw_questions: int | None = None
    own: tuple[LoraWeights, ...] = ()

    @cached_property
    def pool(self) -> dict[str, LoraWeights]:
        """Hash → adapter at hand besides those of a run: the centre of what the generator makes, and the user's."""
        centre = self.generator.centre_weights() if self.generator else None
        return {adapter_sha256(each): each for each in ([centre] if centre else []) + list(self.own)}

    def hashes(self) -> dict[str, str]:
        """Return the hash of each part that is there; a run is resumed with the same ones only."""
        parts = {"generator": self.generator, "aligner": self.aligner}
        return {name: part.sha256 for name, part in parts.items() if part is not None}


def find_trained(
    base_sha256: str,
    task: str | None,
    variant: str,
    *,
    align: bool,
    folder: str | None = None,
    questions: Sequence[str] = (),
) -> Trained:
    """Load the trained parts that serve a base model.

    Args:
        base_sha256: hash of the base model's weights.
        task: the task at hand; ``auto`` takes a generator that never saw it, where there is one.
        variant: ``auto``, or a variant's name.
        align: whether an aligner is wanted too.
        folder: of trained parts; None for the shipped one.
        questions: the prompts at hand, each of which may have been trained on.

    Returns:
        The parts, none of them where nothing was trained for the base model.

    Raises:
        InputError: the index or a part is damaged, or there is no such variant.
    """
    index = pretrained.index_of(folder)
    chosen = pretrained.choose(base_sha256, task, variant, index=index)
    generator = find_generator(base_sha256, task, variant, index)
    if chosen is None or generator is None:
        return Trained()
    aligner = find_aligner(generator, index) if align else None
    learnt = None if task is None else saw(task, chosen.sources)
    asked = saw_questions(base_sha256, questions, chosen, index) if questions else None
    return Trained(generator, aligner, chosen.name, tuple(chosen.sources), learnt, asked)


def saw_questions(base_sha256: str, questions: Sequence[str], variant: pretrained.Variant, index: Path) -> int | None:
    """Return how many questions a variant was trained on, None where the index does not say."""
    listed = pretrained.read_index(index)
    return shared(questions, listed.models[base_sha256], variant, index) if listed else None


def recounted(trained: Trained, base_sha256: str, questions: Sequence[str], folder: str | None = None) -> Trained:
    """Return trained parts with what they saw of other questions than they were looked up for.

    Args:
        trained: what ``find_trained`` returned.
        base_sha256: hash of the base model's weights.
        questions: the prompts at hand now.
        folder: of trained parts; None for the shipped one.
    """
    if trained.variant is None:
        return trained
    index = pretrained.index_of(folder)
    chosen = pretrained.choose(base_sha256, None, trained.variant, index)
    return replace(trained, saw_questions=saw_questions(base_sha256, questions, chosen, index)) if chosen else trained


def own_adapters(lm: LanguageModel, folders: Sequence[str]) -> tuple[LoraWeights, ...]:
    """Return the user's adapters, each of which fits the model.

    Args:
        lm: the base model.
        folders: in PEFT format, the configuration's key ``pool``.

    Raises:
        InputError: a folder holds no plain LoRA adapter of this model.
    """
    found = []
    for folder in folders:
        try:
            weights = load_adapter(Path(folder), lm.sha256)
            lm.check_fit(weights)
            if weights.dora:
                raise InputError("it is a DoRA adapter")
        except InputError as error:
            what = f"pool takes folders of plain LoRA adapters of {lm.profile.name} in PEFT format"
            raise InputError(f"{folder} cannot be a member of pool: {error}. {what}: mend it or leave it out") from None
        found.append(weights)
    return tuple(found)
