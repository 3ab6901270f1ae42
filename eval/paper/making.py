"""A table's adapters: each made once, kept with what it cost, and not made again.

A cell is a method on a task with a seed. It is known by everything that it depends on: code, model, sources, the
target's questions, rules and budget. What a method lacks, or a crash in it, leaves a reason in the place of an adapter,
and the others go on.
"""

import traceback
from functools import partial
from pathlib import Path

from agent.train.files import read_json
from cao.errors import CaoError
from cao.files import canonical_json, sealed, sha256_bytes, write_json
from cao.model.adapters import LoraWeights, load_adapter, save_adapter
from cao.progress import Progress
from cao.types import Record
from eval.baselines.baseline import CODE, Budget, Spent
from eval.baselines.ground import FEW, Ground, Target, ground_of
from eval.baselines.objective import tokens_of
from eval.baselines.registry import BASELINES, Rules, run_cell, target_of
from eval.generation.workshop import BASE, Recipe, Workshop

TEST_STEPS = 10
"""Optimiser steps at test time that the budget pays for, on ``FEW`` labelled questions. Source: CAO-LLM H."""


class Made(Record):
    """A finished cell.

    Attributes:
        adapter: hash of what came out; empty for the base model.
        choosing: spent on choosing a rate.
        preparing: spent on the source tasks.
        adapting: spent on the target.
    """

    adapter: str
    choosing: Spent
    preparing: Spent
    adapting: Spent


def equal_budget(ground: Ground) -> Budget:
    """Return what the generator that serves a task read in its training, in tokens, and ten steps at test time.

    The generator reads its target's prompts through the encoder alone, so ``adapting`` is more than it takes; no
    baseline is held down by it.

    Args:
        ground: of the target.
    """
    preset = ground.workshop.consolidation.preset
    training = preset.generator
    every = [ground.rows(source, ground.objective) for source in ground.variant.sources]
    mean = sum(map(tokens_of, every)) / max(1, sum(map(len, every)))
    contrasts = 1 / training.contrast_every if training.contrast > 0 else 0.0
    through_model = max(0, training.steps - training.behaviour_from)
    asked = through_model * training.tasks * training.batch * (1 + contrasts)
    if training.reconstruction > 0:
        collected = preset.checkpoints
        asked += len(ground.variant.sources) * (collected.warm_steps + collected.kept_steps) * collected.batch
    return Budget(preparing=round(mean * asked), adapting=round(mean * TEST_STEPS * FEW))


def make(
    workshop: Workshop, method: str, task: str, seed: int, *, rules: Rules, budget: Budget | None, progress: Progress
) -> tuple[Made | None, str]:
    """Return a cell, and why there is none where there is none.

    Args:
        workshop: an opened consolidation.
        method: a baseline's name.
        task: that it is adapted to.
        seed: of the target's questions.
        rules: whose hyper-parameters.
        budget: for ``equal``.
        progress: called during long work.
    """
    ground = ground_of(workshop, task, progress)
    try:
        path = _path(ground, target_of(BASELINES[method], ground, task, seed), method, rules, budget)
        if path.exists():
            return read_json(path, Made), ""
        cell = run_cell(workshop, method, task, seed, rules=rules, budget=budget, progress=progress)
    except CaoError as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001  (a method's defect shall not cost the others)
        last = traceback.extract_tb(error.__traceback__)[-1]
        return None, f"crashed: {type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
    kept = save_adapter(_store(ground), cell.weights, ground.lm.source).sha256 if cell.weights else ""
    done = Made(adapter=kept, choosing=cell.choosing, preparing=cell.preparing, adapting=cell.adapting)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, sealed(done.model_dump(mode="json")))
    return done, ""


def recipe_of(made: Made, workshop: Workshop, label: str) -> Recipe:
    """Return how a cell's adapter is had again, by any worker."""
    if not made.adapter:
        return Recipe(BASE, None, "the base model")
    folder = workshop.consolidation.folder / "baselines" / "adapters" / made.adapter
    return Recipe(f"kept:{made.adapter}", partial(_kept, folder=folder), label)


def _kept(workshop: Workshop, folder: Path) -> LoraWeights:
    return load_adapter(folder, workshop.consolidation.lm.sha256)


def _store(ground: Ground) -> Path:
    return ground.folder / "adapters"


def _path(ground: Ground, target: Target, method: str, rules: Rules, budget: Budget | None) -> Path:
    depends_on = {
        "code": CODE,
        "method": method,
        "rules": rules,
        "budget": budget.model_dump(mode="json") if budget else None,
        "ground": ground.about,
        "target": target.about(),
    }
    key = sha256_bytes(canonical_json(depends_on).encode())[:16]
    return ground.folder / "cells" / f"{method}-{target.task.name}-{target.seed}-{key}.json"
