"""Checkpoints of tasks as baselines: trained by Table 8's schedule, or as the consolidation's folder has them."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from cao.model.adapters import LoraWeights
from cao.model.packed_forward import Row
from eval.baselines.base import Fixed
from eval.baselines.baseline import Adapted, Baseline, Place, Prepared, Spent
from eval.baselines.descent import Extent, Plain, Timed
from eval.baselines.ground import Ground, Target
from eval.baselines.objective import tokens_of
from tools.generate_lora.checkpoints import CheckpointPreset, batches, collect
from tools.generate_lora.tokens import flatten, unflatten

INITIAL_SEED = 0


def cost(rows: Sequence[Row], preset: CheckpointPreset, seed: int, seconds: float | None = None) -> Spent:
    """Return what a collection of checkpoints takes.

    Args:
        rows: the questions.
        preset: steps and batch.
        seed: of the questions' order.
        seconds: that it took, None where that was not kept.
    """
    schedule = batches(len(rows), preset.batch, preset.steps, seed)
    tokens = sum(tokens_of([rows[place] for place in places]) for places in schedule)
    return Spent(steps=preset.steps, tokens=tokens, seconds=seconds)


def collected(
    ground: Ground, rows: Sequence[Row], preset: CheckpointPreset, seed: int, place: Place, made_by: str
) -> Adapted:
    """Return the mean of the checkpoints that a training on questions keeps.

    Args:
        ground: for model and layout.
        rows: questions with their gold answers.
        preset: the schedule.
        seed: of the questions' order.
        place: where the training goes on from.
        made_by: for the adapter's provenance.
    """
    lm, layout = ground.lm, ground.workshop.consolidation.layout
    timed = Timed(ground.progress)
    residuals, _ = collect(
        lm,
        rows,
        layout,
        preset=preset,
        initial_seed=INITIAL_SEED,
        seed=seed,
        progress=timed,
        checkpoint=place.checkpoint,
        checkpoint_every_s=place.every_s,
    )
    start = lm.fresh_lora(INITIAL_SEED)
    flat = flatten(start.tensors, layout) + residuals.float().mean(0)
    tensors = {name: part.clone() for name, part in unflatten(flat, layout).items()}
    weights = LoraWeights(start.rank, start.alpha, start.targets, tensors, start.base_sha256, {"made_by": made_by})
    return Adapted(weights, cost(rows, preset, seed, timed.seconds))


def stored(ground: Ground, names: Sequence[str]) -> Adapted:
    """Return the mean of the checkpoints that the consolidation's folder has of tasks; those it lacks are trained.

    Args:
        ground: the opened folder.
        names: the tasks.
    """
    consolidation, spent = ground.workshop.consolidation, Spent()
    for name in names:
        consolidation.checkpoints(name)
        rows, seed = consolidation.rows(name)[0], consolidation.seed_for(f"checkpoints/{name}")
        preset = consolidation.preset.checkpoints
        taken = {"warm_steps": consolidation.steps(name) - preset.kept_steps}
        spent += cost(rows, preset.model_copy(update=taken), seed)
    weights = ground.workshop.average(ground.variant, [f"checkpoints/{name}" for name in names])
    return Adapted(weights, spent)


@dataclass(frozen=True)
class OfSources(Fixed):
    """A method that is made of sources' checkpoints, those that generators are trained on."""

    of_sources: ClassVar[bool] = True

    @abstractmethod
    def sources(self, ground: Ground, task: str, seed: int) -> tuple[str, ...]:
        """Return the sources whose checkpoints it is made of, for a task and a choice of prompts."""

    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return the mean of the checkpoints; what was spent is the training of all of them."""
        return stored(ground, self.sources(ground, target.task.name, target.seed))


@dataclass(frozen=True)
class Scheduled(Baseline):
    """One LoRA adapter, trained by the paper's schedule for checkpoints or within a budget of tokens.

    Attributes:
        how: Table 8's schedule, of whose kept checkpoints the mean is taken, or AdamW within a budget.
    """

    how: CheckpointPreset | Plain

    @classmethod
    def paper(cls) -> Self:
        """Return it with Table 8's schedule."""
        return cls(CheckpointPreset())

    @classmethod
    def within(cls, tokens: int, rate: float, ground: Ground) -> Self:
        """Return it with the steps that some tokens pay for, and the generator's batch and objective."""
        batch = ground.workshop.consolidation.preset.generator.batch
        return cls(Plain(rate=rate, batch=batch, extent=Extent(tokens=tokens), objective=ground.objective))

    def settings(self) -> CheckpointPreset | Plain:
        """Return the schedule."""
        return self.how
