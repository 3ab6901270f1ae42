"""A training of the policy from beginning to end: sample, keep, fine-tune, again; killed anywhere it goes on."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from agent.loop.run_folder import locked
from agent.train.engine.engines import check_engine
from agent.train.files import read_json
from agent.train.policy.fine_tune import Lesson, fine_tune
from agent.train.policy.rest_em import CHUNK, Judge, Judged, Sample, SampleLog, Sampling, collect, kept
from agent.train.policy.rollouts import Plan, Rollouts, lay_out, open_rollouts
from agent.train.policy.settings import KEPT, Settings
from agent.train.policy.situations import Situation
from cao.errors import InputError
from cao.files import canonical_json, write_json
from cao.machine.compute import settled
from cao.model.adapters import LoraWeights, load_adapter, save_adapter
from cao.model.language_model import LanguageModel
from cao.model.loading import check_device
from cao.progress import Progress
from cao.strategies import Strategy
from policies.grid import grid
from policies.local import LocalPolicy
from policies.messages import plain_json

INITIAL_SEED = 0
"""Of the LoRA initialisation that the first fine-tuning starts from."""

GRID = -1
"""The iteration of what no policy drew: points of the grid."""


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
    try:
        for folder in (settings.folder, settings.situations_folder):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{settings.out}: cannot be made ({error.strerror}); choose another --out") from None
    with locked(settings.situations_folder):
        path, config = settings.folder / "config.json", settings.config
        check_device(config.device)
        begun = read_json(path, dict[str, object]).get("dtype") if path.exists() else None
        dtype = settled(config.dtype, config.device, begun)
        write_json(path, {**settings.claim(), "dtype": dtype})
        plan = Plan(settings.situations_folder, config.model_copy(update={"dtype": dtype}), settings.wanted)
        situations = lay_out(plan, progress)
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


def within_budget(judge: Judge, budget: int | None) -> Judge:
    """Return a judge that tries nothing which costs too much: such a strategy earns nothing.

    Args:
        judge: tries strategies.
        budget: prompts that a strategy may train on, None for any number.
    """

    def judged(asked: Mapping[str, Sequence[Strategy]]) -> Iterator[tuple[str, list[Judged]]]:
        refused = {name: [_too_much(one, budget) for one in strategies] for name, strategies in asked.items()}
        tried = {
            name: [one for one, reason in zip(strategies, refused[name], strict=True) if not reason]
            for name, strategies in asked.items()
        }
        for name, worth in judge(tried):
            rewards = iter(worth)
            yield name, [Judged(improved=False, reason=r) if r else next(rewards) for r in refused[name]]

    return judged


def _too_much(strategy: Strategy, budget: int | None) -> str:
    passes = strategy.trained_on
    return f"not tried: trains on {passes} prompts, the budget is {budget}" if budget and passes > budget else ""


def _tuned(training: Training, iteration: int, weights: LoraWeights | None) -> LoraWeights:
    """Return the policy behind an iteration, fine-tuned on the samples that improve the model."""
    mine = [s for s in training.log.samples if s.iteration == iteration and s.situation in training.practice]
    mine.sort(key=lambda one: (training.practice.index(one.situation), one.number))  # workers, and kills, mix the log
    refusal = f"iteration {iteration}: none of {len(mine)} samples improves the model"
    return _fine_tuned(training, iteration + 1, winners(training, mine), weights, refusal)


def _taught(training: Training) -> LoraWeights:
    """Return the policy before the first iteration, fine-tuned on what improves the model of the grid's points."""
    refusal = "no point of the grid that was measured improves the model (--landscape measures them all)"
    return _fine_tuned(training, 0, winners(training, []), None, refusal)


def winners(training: Training, drawn: Sequence[Sample]) -> dict[str, list[str]]:
    """Return the texts that a fine-tuning learns from, situation by situation.

    After a warm start the grid's points stay among them: an iteration that finds one text must not unlearn the rest.

    Args:
        training: the training.
        drawn: samples of practice; none before the first iteration.
    """
    return kept([*drawn, *(_on_the_grid(training) if training.settings.warm_start else ())], KEPT)


def _on_the_grid(training: Training) -> list[Sample]:
    """Return the grid's points that are known to improve the model in practice, as samples that nobody drew."""
    found = list[Sample]()
    for name in training.practice:
        known = training.situations[name].known()
        for point in grid(training.situations[name].context.families):
            strategy = point.canonical()
            judged = known.get(canonical_json(strategy))
            affordable = not _too_much(point, training.settings.budget)
            if affordable and judged and judged.improved and judged.comparison:
                found.append(
                    Sample(
                        iteration=GRID,
                        situation=name,
                        number=len(found),
                        raw=plain_json(strategy, spaced=False),
                        valid=True,
                        strategy=strategy,
                        reward=1,
                        judged=judged,
                    )
                )
    return found


def _fine_tuned(
    training: Training, number: int, texts: Mapping[str, Sequence[str]], weights: LoraWeights | None, refusal: str
) -> LoraWeights:
    """Return policy ``number``, from its folder where it is there already.

    Args:
        training: the training.
        number: of the policy.
        texts: situation → what is right there.
        weights: the adapter to go on from, None for a fresh one.
        refusal: what to say where there are no texts.
    """
    place = training.settings.folder / f"policy-{number}"
    if place.exists():
        return load_adapter(place, training.lm.sha256)
    if not texts:
        raise InputError(f"{refusal}, so there is nothing to learn from; give more --tasks, --seeds or --samples")
    policy = LocalPolicy(training.lm, training.settings.config.policy_settings, weights)
    lessons = [Lesson(policy.prompt(training.situations[name].context), mine) for name, mine in texts.items()]
    start = weights or training.lm.fresh_lora(INITIAL_SEED)
    losses: list[float] = []
    how = training.settings.tuning
    tuned = fine_tune(training.lm, lessons, start, how, progress=training.progress, losses=losses)
    write_json(training.settings.folder / f"fine-tuning-{number}-losses.json", losses)
    return _keep(tuned, place, training.lm)


def _keep(weights: LoraWeights, place: Path, lm: LanguageModel) -> LoraWeights:
    """Write an adapter under a name of its own in one step, rounded as it will be shipped, and return it."""
    store = place.parent / ".adapters"
    reference = save_adapter(store, weights, lm.source, torch.bfloat16)
    os.replace(reference.path, place)
    shutil.rmtree(store, ignore_errors=True)
    return load_adapter(place, lm.sha256)
