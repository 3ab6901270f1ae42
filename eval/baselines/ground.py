"""What baselines work with: the model, the source tasks as the generator has them, and a target's questions.

The sources are those of the generator that never saw the target, from the consolidation's own snapshots (the mean of
checkpoints alone takes others): no question of theirs is a question that results are reported on. A target's questions
come from its parts support, reward and train, which share none with its test part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from agent.train.generator.own import parted
from agent.train.generator.variants import Variant
from cao.errors import InputError
from cao.files import canonical_json, sha256_bytes
from cao.model.adapters import LoraWeights, initial_lora
from cao.model.language_model import LanguageModel
from cao.model.profiles import settings_of
from cao.progress import Progress, silent
from cao.tasks import get_task
from cao.tasks.base import Task
from cao.tasks.splits import DEFAULT_SIZES
from cao.types import AnswerStyle, Example
from eval.baselines.objective import Objective, Questions
from eval.generation.consolidation import serving
from eval.generation.sheets import Sheet, questions
from eval.generation.workshop import Workshop
from eval.questions import as_asked

FEW = 25
"""Labelled support questions at test time. Source: CAO-LLM H."""

TARGET_TOKENS = 512
"""Tokens of a target's question with its answers, at most: the test asks it whole, and sources' rows are shorter."""


@dataclass(frozen=True)
class Target:
    """A task that a baseline is adapted to.

    Attributes:
        task: how it is asked.
        seed: that chose its questions.
        support: questions whose prompts, and for some methods labels, are read.
        reward: labelled questions of the part that steers a run.
        train: labelled questions of the part for training; none where they are not asked for.
    """

    task: Task
    seed: int
    support: tuple[Example, ...] = field(repr=False)
    reward: tuple[Example, ...] = field(default=(), repr=False)
    train: tuple[Example, ...] = field(default=(), repr=False)

    def rows(self, lm: LanguageModel, objective: Objective, examples: Sequence[Example]) -> Questions:
        """Return questions of the target as an objective reads them.

        Raises:
            InputError: none of them has choices.
        """
        return objective.rows(lm, self.task, examples, TARGET_TOKENS)

    def about(self, style: AnswerStyle) -> dict[str, object]:
        """Return what a training on it depends on, in JSON values.

        Args:
            style: in which the model's profile asks questions.
        """
        parts = {"support": self.support, "reward": self.reward, "train": self.train}
        hashes = {name: _sha256(self.task, some, style) for name, some in parts.items()}
        return {"task": self.task.name, "description": self.task.description, "seed": self.seed, **hashes}


@dataclass(frozen=True)
class Ground:
    """What every baseline of one target works with.

    Attributes:
        workshop: an opened consolidation, and what it holds.
        variant: the generator that serves the target; its sources are trained on.
        folder: where preparations are kept.
        progress: called during long work.
    """

    workshop: Workshop
    variant: Variant
    folder: Path
    progress: Progress = silent
    _rows: dict[tuple[str, str], Questions] = field(default_factory=dict, init=False, repr=False)
    _asked: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    @property
    def lm(self) -> LanguageModel:
        """The base model, undressed."""
        return self.workshop.consolidation.lm

    @property
    def row_tokens(self) -> int:
        """Tokens of a question with its answers, at most: the generator's."""
        return self.workshop.consolidation.preset.row_tokens

    @cached_property
    def objective(self) -> Objective:
        """What the generator of this consolidation is trained for."""
        preset = self.workshop.consolidation.preset.generator
        return Objective(answers=preset.answers, choices=preset.choices)

    @cached_property
    def seed(self) -> int:
        """Of every preparation."""
        return self.workshop.consolidation.seed

    def examples(self, source: str, *, held_back: bool = False) -> list[Example]:
        """Return a source's train questions: those trained on, or those only measured on."""
        return parted(self.workshop.consolidation.examples(source))[held_back]

    def rows(self, source: str, objective: Objective) -> Questions:
        """Return a source's train questions as an objective reads them."""
        key = source, objective.model_dump_json()
        if key not in self._rows:
            self._rows[key] = objective.rows(self.lm, get_task(source), self.examples(source), self.row_tokens)
        return self._rows[key]

    def full(self, tensors: Mapping[str, Tensor], made_by: str) -> LoraWeights:
        """Return the adapter of tensors, on all modules that carry LoRA."""
        return replace(self.lm.fresh_lora(0), tensors=dict(tensors), provenance={"made_by": made_by})

    @cached_property
    def about(self) -> dict[str, object]:
        """What a preparation depends on, in JSON values."""
        consolidation, lm = self.workshop.consolidation, self.lm
        return {
            "model": lm.sha256,
            "encoder": consolidation.encoder.sha256,
            "device": lm.device,
            "dtype": lm.dtype,
            "seed": consolidation.seed,
            "profile": settings_of(lm.profile),
            "preset": consolidation.preset.model_dump(mode="json"),
            "row_tokens": self.row_tokens,
            "sources": self.asked(self.variant.sources),
            "descriptions": {name: get_task(name).description for name in self.variant.sources},
        }

    def asked(self, names: Sequence[str]) -> dict[str, str]:
        """Return source → hash of its train questions as the model is asked them, with what is right."""
        consolidation, style = self.workshop.consolidation, self.lm.profile.answer_style
        for name in names:
            if name not in self._asked:
                self._asked[name] = _sha256(get_task(name), consolidation.examples(name), style)
        return {name: self._asked[name] for name in names}

    def target(self, task: str, seed: int, *, train: bool = False) -> Target:
        """Return a reported task as a baseline may read it.

        Args:
            task: its name.
            seed: of a run, whose support questions are taken; its reward questions are those of every row and seed.
            train: whether its train questions are among it.

        Raises:
            InputError: train questions are asked for, and the task has none, or shares them with another one.
        """
        found = get_task(task)
        reward = questions(Sheet(task, "reward", self.workshop.reward))
        own = tuple(self.examples(task)) if train else ()
        return Target(found, seed, tuple(self.workshop.support(task, seed)), tuple(reward), own)

    def rehearsal(self, source: str) -> Target:
        """Return a source in the place of a target, for choosing a rate: made of its train questions alone."""
        examples = self.examples(source)
        support, rest = examples[:FEW], examples[FEW:]
        return Target(get_task(source), self.seed, tuple(support), tuple(rest[: DEFAULT_SIZES["reward"]]), tuple(rest))


def fresh_lora(lm: LanguageModel, targets: Sequence[str], rank: int | None = None) -> LoraWeights:
    """Return the recorded initialisation on some of the modules that carry LoRA.

    Args:
        lm: the model; its profile gives α.
        targets: last names of modules; those that carry no LoRA in this model are left out.
        rank: r, the profile's where it is None.

    Raises:
        InputError: none of them carries LoRA.
    """
    profile = lm.profile
    shapes = {name: shape for name, shape in lm.lora_shapes().items() if name.rsplit(".", 1)[-1] in targets}
    present = tuple(sorted({name.rsplit(".", 1)[-1] for name in shapes}))
    if not shapes:
        raise InputError(f"{profile.name}: none of {', '.join(targets)} carries LoRA")
    return initial_lora(shapes, present, rank or profile.lora_rank, profile.lora_alpha, 0, lm.sha256)


def ground_of(workshop: Workshop, task: str, progress: Progress = silent) -> Ground:
    """Return what baselines of a task work with: the sources of the generator that never saw it."""
    consolidation = workshop.consolidation
    return Ground(workshop, serving(consolidation, task), consolidation.folder / "baselines", progress)


def _sha256(task: Task, examples: Sequence[Example], style: AnswerStyle) -> str:
    """Return the hash of questions as a model is asked them, with what is right."""
    return sha256_bytes(canonical_json(as_asked(task, examples, style)).encode())
