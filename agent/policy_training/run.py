"""A training of the policy from beginning to end: sample, keep, fine-tune, again; killed anywhere it goes on."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from agent.policy_training.settings import KEPT, Settings
from agent.policy_training.situations import Place, Situation
from agent.workspace import locked
from cao.adapters import LoraWeights, load_adapter, save_adapter
from cao.assets import minilm_folder
from cao.encoder import Encoder
from cao.errors import InputError
from cao.files import write_json
from cao.language_model import LanguageModel, load_language_model
from cao.models import MODELS
from cao.progress import Progress
from cao.strategy import Strategy
from policies.fine_tune import Lesson, fine_tune
from policies.grid import grid
from policies.local import LocalPolicy
from policies.rest_em import Judged, SampleLog, collect, kept
from tools.evaluate import KeptStates

INITIAL_SEED = 0
"""Of the LoRA initialisation that the first fine-tuning starts from."""


@dataclass(frozen=True)
class Training:
    """A training with everything loaded.

    Attributes:
        settings: what was asked for.
        lm: the model that is adapted and that decides.
        practice: situations to learn in.
        held_out: situations that the policy is only measured in.
        log: every sample.
        progress: shows long work.
    """

    settings: Settings
    lm: LanguageModel
    practice: list[Situation]
    held_out: list[Situation]
    log: SampleLog
    progress: Progress

    @property
    def situations(self) -> dict[str, Situation]:
        """All situations by name."""
        return {situation.name: situation for situation in (*self.practice, *self.held_out)}


def open_training(settings: Settings, progress: Progress) -> Training:
    """Load the models and lay out the situations.

    Raises:
        InputError: no such task, or too few questions.
        UnavailableError: something needed is not at hand.
    """
    config = settings.config
    lm = load_language_model(MODELS[config.model], path=config.model_path, device=config.device, offline=config.offline)
    place = Place(settings.places, config, lm, Encoder(minilm_folder(), lm.device), KeptStates(), progress)
    make = partial(Situation, place)
    return Training(
        settings,
        lm,
        [make(task, seed, for_practice=True) for seed in range(settings.seeds) for task in settings.tasks],
        [make(task, seed, for_practice=False) for seed in range(settings.seeds) for task in settings.held_out],
        SampleLog(settings.folder / "samples.jsonl"),
        progress,
    )


def train(settings: Settings, progress: Progress) -> Training:
    """Do whatever is not done yet and return the training; its folder holds the samples and the weights.

    Raises:
        InputError: settings that cannot be, or another process works on the same situations.
        UnavailableError: something needed is not at hand.

    Source: CAO-LLM §2.4, G.5.
    """
    settings.check()
    try:
        for folder in (settings.folder, settings.places):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{settings.out}: cannot be made ({error.strerror}); choose another --out") from None
    with locked(settings.places):
        write_json(settings.folder / "config.json", settings.claim())
        training = open_training(settings, progress)
        if settings.landscape:
            measure_landscape(list(training.situations.values()), progress)
        weights: LoraWeights | None = None
        for iteration in range(settings.iterations):
            _sample(training, iteration, weights)
            weights = _tuned(training, iteration, weights)
        _sample(training, settings.iterations, weights)  # what the last fine-tuning made of the policy
    return training


def measure_landscape(situations: Sequence[Situation], progress: Progress) -> None:
    """Measure every point of the strategy grid in every situation; what is known is not measured again.

    Args:
        situations: where.
        progress: told after each point.
    """
    for situation in situations:
        points = grid(situation.context.families)
        for done, point in enumerate(points, 1):
            situation.judge(point)
            progress(f"landscape of {situation.name}", done, len(points))


def _sample(training: Training, iteration: int, weights: LoraWeights | None) -> None:
    settings, situations = training.settings, training.situations
    policy = LocalPolicy(training.lm, settings.config.policy_settings, weights)

    def draw(name: str, n: int, seed: int) -> list[str]:
        return policy.draw(situations[name].context, n, seed)

    def judge(name: str, strategy: Strategy) -> Judged:
        return situations[name].judge(strategy)

    for side in (training.practice, training.held_out):
        names = [situation.name for situation in side]
        collect(names, iteration, draw, judge, settings.sampling, training.log, training.progress)


def _tuned(training: Training, iteration: int, weights: LoraWeights | None) -> LoraWeights:
    """Return the policy behind an iteration, from its folder where it is there already."""
    place = training.settings.folder / f"policy-{iteration + 1}"
    if place.exists():
        return load_adapter(place, training.lm.sha256)
    policy = LocalPolicy(training.lm, training.settings.config.policy_settings, weights)
    learnt = {situation.name for situation in training.practice}
    mine = [s for s in training.log.samples if s.iteration == iteration and s.situation in learnt]
    lessons = [
        Lesson(policy.prompt(training.situations[name].context), texts) for name, texts in kept(mine, KEPT).items()
    ]
    if not lessons:
        raise InputError(
            f"iteration {iteration}: none of {len(mine)} samples improves the model, so there is nothing to learn "
            "from; give more --tasks, --seeds or --samples"
        )
    start = weights or training.lm.fresh_lora(INITIAL_SEED)
    tuned = fine_tune(training.lm, lessons, start, training.settings.tuning, progress=training.progress)
    return _keep(tuned, place, training.lm)


def _keep(weights: LoraWeights, place: Path, lm: LanguageModel) -> LoraWeights:
    """Write an adapter under a name of its own in one step, rounded as it will be shipped, and return it."""
    store = place.parent / ".adapters"
    reference = save_adapter(store, weights, lm.profile.name, torch.bfloat16)
    os.replace(reference.path, place)
    shutil.rmtree(store, ignore_errors=True)
    return load_adapter(place, lm.sha256)
