"""A baseline's adapters: each made once, kept with what it cost, and not made again.

An adapter is known by everything that it depends on: code, model, sources, the target's questions, rules and budget.
"""

from pathlib import Path

from agent.train.generator.presets import REPORTED
from agent.train.generator.variants import aligned
from cao.errors import InputError
from cao.model.adapters import save_adapter
from cao.progress import Progress, timed
from cao.types import Record
from eval.baselines.baseline import TEST_STEPS, Budget, Spent
from eval.baselines.cell import Rules, run_cell, target_of
from eval.baselines.descent import mean_tokens
from eval.baselines.ground import FEW, Ground, ground_of
from eval.baselines.objective import Objective
from eval.baselines.registry import BASELINES
from eval.code import code_of
from eval.generation.consolidation import serving
from eval.generation.workshop import Workshop
from eval.kept import Kept
from tools.generate_lora.sources import GeneratorPreset


class Made(Record):
    """What a baseline made.

    Attributes:
        adapter: hash of what came out; empty for the base model.
        rank: of it.
        choosing: spent on choosing a rate.
        preparing: spent on the source tasks.
        adapting: spent on the target.
    """

    adapter: str
    rank: int
    choosing: Spent
    preparing: Spent
    adapting: Spent


class Tokens(Record):
    """What a training reads of a question, tokens."""

    mean: float


def equal_budget(ground: Ground) -> Budget:
    """Return what the generator that serves a task, and its aligner, read in training, and ten steps at test time.

    An aligner that learns across folds reads their generators' adapters, too; what those generators read is the budget
    of the tasks that they serve. At test time a generator reads its target's prompts through the encoder alone, less
    than ``adapting``; what a whole run reads there is not bounded, and stands on the page.

    Args:
        ground: of the target.
    """
    preset = ground.workshop.consolidation.preset
    training = preset.generator
    mean = tokens_of_a_question(ground)
    together = min(training.tasks, len(ground.variant.sources))
    contrasts = share_of_contrasts(training) if training.contrast > 0 and together > 1 else 0.0
    asked = training.through_model * together * training.batch * (1 + contrasts)
    if training.reconstruction > 0:
        asked += len(ground.variant.sources) * preset.checkpoints.questions
    if preset.gains and ground.variant.name in aligned(preset):
        asked += preset.gains.steps * preset.gains.tasks * preset.gains.batch
    served = [task for task in REPORTED if serves(ground, task)]
    return Budget(preparing=round(mean * asked), adapting=round(mean * TEST_STEPS * FEW), targets=max(1, len(served)))


def serves(ground: Ground, task: str) -> bool:
    """Return whether the same generator serves a task; where every generator saw a task, none does."""
    try:
        return serving(ground.workshop.consolidation, task).name == ground.variant.name
    except InputError:
        return False


def share_of_contrasts(training: GeneratorPreset) -> float:
    """Return the share of a generator's steps that read for the contrast, too: it is due, and no task lacks prompts."""
    return (1 - training.unprompted) ** training.tasks / training.contrast_every


def tokens_of_a_question(ground: Ground, by: Objective | None = None) -> float:
    """Return how many tokens a training reads of a question, on average over sources; counted once and kept.

    Sources weigh the same, since a step draws sources first.

    Args:
        ground: the sources.
        by: what a training learns; None for the generator's own.
    """
    objective = by or ground.objective

    def counted() -> Tokens:
        with timed(f"counting the tokens of {len(ground.variant.sources)} sources"):
            return Tokens(mean=mean_tokens([ground.rows(source, objective) for source in ground.variant.sources]))

    depends_on = {
        "ground": ground.about,
        "objective": objective.model_dump(mode="json"),
        "code": code_of("eval.baselines.descent"),
    }
    return Kept(ground.folder).record("tokens", depends_on, Tokens, counted).mean


def make(
    workshop: Workshop, method: str, task: str, seed: int, *, rules: Rules, budget: Budget | None, progress: Progress
) -> Made:
    """Return what a baseline makes for a task; its adapter lies in ``folder_of``.

    Args:
        workshop: the sources.
        method: a baseline's name.
        task: that it is adapted to.
        seed: of the target's questions.
        rules: whose hyper-parameters.
        budget: for ``equal``.
        progress: called during long work.

    Raises:
        InputError: the task lacks what the method reads, the training diverged, or a kept file is of something else.
        UnavailableError: something needed is not at hand.
    """
    ground, kind = ground_of(workshop, task, progress), BASELINES[method]
    depends_on = {
        "code": code_of(kind.__module__, "eval.baselines.cell"),
        "method": method,
        "rules": rules,
        "budget": budget.model_dump(mode="json") if budget else None,
        "ground": ground.about,
        "pool": ground.asked(kind.pool(ground, task)),
        "target": target_of(kind, ground, task, seed).about(ground.lm.profile.answer_style),
    }

    def made() -> Made:
        cell = run_cell(workshop, kind, task, seed, rules=rules, budget=budget, progress=progress)
        kept = save_adapter(ground.folder / "adapters", cell.weights, ground.lm.source) if cell.weights else None
        return Made(
            adapter=kept.sha256 if kept else "",
            rank=kept.rank if kept else 0,
            choosing=cell.choosing,
            preparing=cell.preparing,
            adapting=cell.adapting,
        )

    return Kept(ground.folder / "cells").record(f"{method}-{task}-{seed}", depends_on, Made, made)


def folder_of(ground: Ground, made: Made) -> Path:
    """Return the folder of an adapter that a baseline made, in PEFT format."""
    return ground.folder / "adapters" / made.adapter
