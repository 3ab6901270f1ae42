"""The trained parts of stages 1 and 2 that serve a base model, looked up once and passed around together."""

from dataclasses import dataclass

from tools import pretrained
from tools.align_lora import find_aligner
from tools.align_lora.aligner import TrainedAligner
from tools.generate_lora import find_generator
from tools.generate_lora.generator import TrainedGenerator


@dataclass(frozen=True)
class Trained:
    """What makes adapters from prompts; empty where nothing was trained for the base model.

    Attributes:
        generator: from prompts to an adapter.
        aligner: from a generated adapter to an aligned one.
        variant: which of the trained generators, by the index.
        sources: the tasks that it was trained on.
        saw_task: whether the task at hand was among them, None where no task was named or nothing was trained.
    """

    generator: TrainedGenerator | None = None
    aligner: TrainedAligner | None = None
    variant: str | None = None
    sources: tuple[str, ...] = ()
    saw_task: bool | None = None

    def hashes(self) -> dict[str, str]:
        """Return the hash of each part that is there; a run is resumed with the same ones only."""
        parts = {"generator": self.generator, "aligner": self.aligner}
        return {name: part.sha256 for name, part in parts.items() if part is not None}


def find_trained(
    base_sha256: str, task: str | None, variant: str, *, align: bool, folder: str | None = None
) -> Trained:
    """Load the trained parts that serve a base model.

    Args:
        base_sha256: hash of the base model's weights.
        task: the task at hand; ``auto`` takes a generator that never saw it, where there is one.
        variant: ``auto``, ``full`` or ``without-TASK``.
        align: whether an aligner is wanted too.
        folder: of trained parts; None for the shipped one.

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
    saw = None if task is None else task in chosen.sources
    return Trained(generator, aligner, chosen.name, tuple(chosen.sources), saw)
