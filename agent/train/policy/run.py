"""A training of the policy from beginning to end: sample, keep, fine-tune, again; killed anywhere it goes on."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from agent.loop.run_folder import locked
from agent.record.wording import count
from agent.train.engine.engines import check_engine
from agent.train.files import read_json
from agent.train.policy.fine_tune import fine_tune
from agent.train.policy.lessons import lessons_of, winners, within_budget
from agent.train.policy.rest_em import CHUNK, Sample, SampleLog, Sampling, collect
from agent.train.policy.rollouts import Plan, Rollouts, lay_out, open_rollouts
from agent.train.policy.settings import Settings
from agent.train.policy.situations import Situation
from cao.command_line import make_folder
from cao.errors import InputError
from cao.files import UNFINISHED, write_json
from cao.machine.compute import settled
from cao.model.adapters import LoraWeights, load_adapter, save_adapter
from cao.model.language_model import LanguageModel
from cao.model.loading import check_device
from cao.progress import Progress
from policies.grid import grid
from policies.local import LocalPolicy

INITIAL_SEED = 0
"""Of the LoRA initialisation that the first fine-tuning starts from."""


@dataclass(frozen=True)
class Training:
    """A training with everything loaded.

    Attributes:
        settings: what was asked for.
        situations: all of them by name.
        practice: names of those to learn in.
        held_out: names of those that the policy is only measured in.
        log: every sample.
        progress: shows long work.
    """

    settings: Settings
    situations: dict[str, Situation]
    practice: tuple[str, ...]
    held_out: tuple[str, ...]
    log: SampleLog
    progress: Progress

    @property
    def last(self) -> Path | None:
        """The folder of the last trained policy, None where no language model was trained."""
        trained = self.settings.iterations or self.settings.warm_start
        return self.settings.folder / f"policy-{self.settings.iterations}" if trained else None

    @property
    def lm(self) -> LanguageModel:
        """The model that is adapted and that decides."""
        return next(iter(self.situations.values())).bench.lm


def train(settings: Settings, progress: Progress) -> Training:
    """Do whatever is not done yet and return the training; its folder holds the samples and the weights.

    Raises:
        InputError: settings that cannot be, or another process works on the same situations.
        UnavailableError: something needed is not at hand.

    Source: CAO-LLM §2.4, G.5.
    """
    settings.check()
    check_engine(settings.engine)
    for folder in (settings.folder, settings.situations_folder):
        make_folder(folder)
    with locked(settings.situations_folder, alone=True):
        path, config = settings.folder / "config.json", settings.config
        check_device(config.device)
        begun = read_json(path, dict[str, object]) if path.exists() else {}
        dtype = settled(config.dtype, config.device, begun.get("dtype"))
        plan = Plan(settings.situations_folder, config.model_copy(update={"dtype": dtype}), settings.wanted)
        situations = lay_out(plan, progress)
        _claim(path, begun, {**settings.claim(), "dtype": dtype}, situations)
        names = tuple(situations)
        sides = {True: tuple[str, ...](), False: tuple[str, ...]()}
        for name, situation in situations.items():
            sides[situation.practice] += (name,)
        log = SampleLog(settings.folder / "samples.jsonl")
        training = Training(settings, situations, sides[True], sides[False], log, progress)
        with open_rollouts(settings.engine, settings.workers, plan, situations, progress) as rollouts:
            rollouts.prepare(names, progress)
            if settings.landscape:
                measure_landscape(rollouts, situations, progress)
            weights = _taught(training) if settings.warm_start else None
            for iteration in range(settings.iterations):
                _sample(training, rollouts, iteration, weights, settings.sampling)
                weights = _tuned(training, iteration, weights)
            last = settings.sampling.model_copy(update={"most": min(CHUNK, settings.sampling.most)})
            if weights is not None:
                _sample(training, rollouts, settings.iterations, weights, last)  # what came of the last fine-tuning
    return training


def _claim(
    path: Path, begun: Mapping[str, object], claim: Mapping[str, object], situations: Mapping[str, Situation]
) -> None:
    """Write down what a training is for, with the key of every situation; samples of other ones are not mixed in.

    Raises:
        InputError: what rewards depend on (questions, weights, code) has changed since the training began.
    """
    keys = {name: situation.key for name, situation in situations.items()}
    stored = begun.get("situations")
    before = stored if isinstance(stored, dict) else {}
    if changed := [name for name, key in keys.items() if begun and before.get(name) != key]:
        raise InputError(
            f"{path.parent}: {count(len(changed), 'situation')} of {len(keys)} changed since this training began "
            f"({changed[0]}: other questions, weights or code); delete the folder to train anew, rewards that still "
            "hold are not measured again"
        )
    write_json(path, {**claim, "situations": keys})


def measure_landscape(rollouts: Rollouts, situations: Mapping[str, Situation], progress: Progress) -> None:
    """Measure every point of the strategy grid in every situation; what is known is not measured again.

    Args:
        rollouts: try strategies.
        situations: where, each ready.
        progress: called after each situation.
    """
    points = {name: grid(situation.context.families) for name, situation in situations.items()}
    for done, (name, _) in enumerate(rollouts.judge(points), 1):
        progress(f"landscape, the last one of {name}", done, len(points))


def _sample(
    training: Training, rollouts: Rollouts, iteration: int, weights: LoraWeights | None, sampling: Sampling
) -> None:
    settings, situations = training.settings, training.situations
    policy = LocalPolicy(training.lm, settings.config.policy_settings, weights)

    def draw(name: str, n: int, seed: int) -> list[str]:
        return policy.draw(situations[name].context, n, seed)

    judge = within_budget(rollouts.judge, settings.budget)
    names = [*training.practice, *training.held_out]
    collect(names, iteration, draw, judge, sampling, training.log, training.progress)


def _tuned(training: Training, iteration: int, weights: LoraWeights | None) -> LoraWeights:
    """Return the policy behind an iteration, fine-tuned on the samples that improve the model."""
    mine = [s for s in training.log.samples if s.iteration == iteration and s.situation in training.practice]
    mine.sort(key=lambda one: (training.practice.index(one.situation), one.number))  # workers, and kills, mix the log
    refusal = f"iteration {iteration}: none of {len(mine)} samples improves the model"
    return _fine_tuned(training, iteration + 1, _winners(training, mine), weights, refusal)


def _taught(training: Training) -> LoraWeights:
    """Return the policy before the first iteration, fine-tuned on what improves the model of the grid's points."""
    refusal = "no point of the grid that was measured improves the model (--landscape measures them all)"
    return _fine_tuned(training, 0, _winners(training, []), None, refusal)


def _winners(training: Training, drawn: Sequence[Sample]) -> dict[str, list[Sample]]:
    settings = training.settings
    practice = {name: training.situations[name] for name in training.practice}
    return winners(practice, drawn, warm_start=settings.warm_start, budget=settings.budget)


def _fine_tuned(
    training: Training, number: int, won: Mapping[str, Sequence[Sample]], weights: LoraWeights | None, refusal: str
) -> LoraWeights:
    """Return policy ``number``, from its folder where it is there already.

    Args:
        training: the training.
        number: of the policy.
        won: situation → what is right there.
        weights: the adapter to go on from, None for a fresh one.
        refusal: what to say where there is nothing.
    """
    place = training.settings.folder / f"policy-{number}"
    if place.exists():
        return load_adapter(place, training.lm.sha256)
    if not won:
        raise InputError(f"{refusal}, so there is nothing to learn from; give more --tasks, --seeds or --samples")
    policy = LocalPolicy(training.lm, training.settings.config.policy_settings, weights)
    lessons = lessons_of(training.situations, won, policy.prompt)
    start = weights or training.lm.fresh_lora(INITIAL_SEED)
    losses: list[float] = []
    how = training.settings.tuning
    tuned = fine_tune(training.lm, lessons, start, how, progress=training.progress, losses=losses)
    write_json(training.settings.folder / f"fine-tuning-{number}-losses.json", losses)
    return _keep(tuned, place, training.lm)


def _keep(weights: LoraWeights, place: Path, lm: LanguageModel) -> LoraWeights:
    """Write an adapter under a name of its own in one step, rounded as it will be shipped, and return it."""
    store = place.parent / f".adapters{UNFINISHED}"
    reference = save_adapter(store, weights, lm.source, torch.bfloat16)
    os.replace(reference.path, place)
    shutil.rmtree(store, ignore_errors=True)
    return load_adapter(place, lm.sha256)
