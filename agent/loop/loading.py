"""Loading what a run works with, and holding it against what the run was begun with."""

import time
from dataclasses import replace
from pathlib import Path

import torch

from agent.budget.clock import Clock, timed_speed
from agent.budget.fit import fit
from agent.budget.memory import models_memory
from agent.budget.plan import Speed, starts_of
from agent.config import RunConfig
from agent.loop.request import RunHeader, read_task
from agent.loop.state import NO_TIME, Workbench
from agent.loop.trained import find_trained, own_adapters, recounted
from agent.record.terminal import View
from cao.errors import InputError
from cao.files import sha256_file
from cao.inference.chat import by_chat
from cao.machine import assets
from cao.machine.compute import choose_compute
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.model.memory import check_room
from cao.model.start_adapter import attach_adapter
from cao.progress import say, timed
from cao.tasks.base import Task
from cao.tasks.splits import Splits
from cao.types import AnswerProtocol
from policies.base import HasModel, adapter_of
from policies.describe import check_describer
from policies.registry import build_policy, learnt_file
from tools.evaluate import HiddenCache


def build_workbench(
    config: RunConfig, task: Task, splits: Splits, protocol: AnswerProtocol, view: View, began: float | None = None
) -> Workbench:
    """Load what the nodes work with: model, encoder, policy. Nothing is written; the folder comes later.

    Args:
        config: the run's configuration, its dtype settled.
        task: what to adapt to.
        splits: its questions.
        protocol: how answers are judged.
        view: what shows the progress.
        began: when the command began, by ``time.monotonic``; a time budget counts from there.

    Raises:
        UnavailableError: a model, key, package or device is not at hand.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    check_describer(config.describer, config.policy_settings, offline=config.offline)
    if config.device == "cpu":
        check_room(models_memory(config, choose_compute(config.dtype, config.device)))
    with timed("loading the language model"):
        lm = load_model(config)
    carried = attach_adapter(lm, Path(config.start_adapter)) if config.start_adapter else None
    if config.start_adapter and carried is None:
        say(
            f"{config.start_adapter} is more than added matrices: merged into {lm.profile.name}; the run builds on that"
        )
    own = own_adapters(lm, config.pool)
    policy = build_policy(
        config.policy, config.policy_settings, lm=lm, offline=config.offline, pretrained=config.pretrained
    )
    task = asked_as(task, config, protocol, lm)
    encoder = Encoder(assets.minilm_folder(), config.device)
    align = config.adapter == "aligned"
    asked, folder = _prompts(splits), config.pretrained
    trained = find_trained(lm.sha256, task.name, config.variant, align=align, folder=folder, questions=asked)
    return Workbench(
        config=config,
        folder=Path(),  # the run's folder and trace come once all of this is there
        task=task,
        splits=splits,
        protocol=protocol,
        lm=lm,
        encoder=encoder,
        policy=policy,
        trained=replace(trained, own=own),
        states=HiddenCache(),
        record=lambda *_, **__: None,
        progress=view.progress,
        clock=Clock(60 * config.minutes if config.minutes else None, began=began or time.monotonic()),
        speed=Speed.of(lm.compute, lm.profile) if lm.compute else NO_TIME,
        carried=carried,
    )


def _prompts(splits: Splits) -> list[str]:
    return [example.prompt for example in (*splits.support, *splits.reward, *splits.test)]


def asked_as(task: Task, config: RunConfig, protocol: AnswerProtocol, lm: LanguageModel) -> Task:
    """Return the task as it is asked: written answers by the chat template, where they are asked for so."""
    return by_chat(task, lm) if asks_by_chat(task, config) and protocol == "generate" else task


def asks_by_chat(task: Task, config: RunConfig) -> bool:
    """Return whether written answers are asked for by the chat template: to a user's file, unless said otherwise."""
    return task.reading is not None if config.chat == "auto" else config.chat == "on"


OF_POLICY = ("policy", "policy model", "selection")
"""Keys of ``trained_hashes`` that are of who proposes."""


def trained_hashes(bench: Workbench) -> dict[str, str]:
    """Return the hash of every trained part that the run works with."""
    policy, config, found = bench.policy, bench.config, bench.trained.hashes()
    if adapter := adapter_of(policy):
        found["policy"] = adapter
    if isinstance(policy, HasModel) and policy.model_sha256 != bench.lm.sha256:
        found["policy model"] = policy.model_sha256
    if learnt := learnt_file(config.policy, config.policy_settings, bench.lm.profile.name, config.pretrained):
        found["selection"] = sha256_file(learnt)
    return found


def refuse_other_weights(stored: RunHeader, bench: Workbench) -> None:
    """Raise InputError where a run would go on with another model, generator or aligner than it was started with."""
    run_id, before, now = stored.run_id, stored.pretrained, trained_hashes(bench)
    if stored.model_sha256 != bench.lm.sha256:
        raise InputError(f"run {run_id} was started with another {bench.config.model}; start a new run")
    unsaid = {*OF_POLICY[1:]} - before.keys()  # older versions did not say
    for part in sorted({*before, *now} - unsaid):
        if before.get(part) != now.get(part):
            had, has = ((hashes.get(part) or "none")[:12] for hashes in (before, now))
            raise InputError(f"run {run_id} was started with {part} {had}, now it is {has}; start a new run")


def fitted(bench: Workbench, view: View) -> Workbench:
    """Return the workbench with sizes that fit into the time budget, where there is one, and say which.

    Raises:
        InputError: not even the smallest run fits.
    """
    config = bench.config
    if config.minutes is None:
        return bench
    view.progress("timing a few prompts", 0, 0)
    shown = bench.splits.reward if config.prompts else bench.splits.support  # prompts may have no choices to rank
    speed = timed_speed(bench.speed, bench.lm, bench.task, shown, bench.protocol)
    found = bench.trained
    starts = starts_of(config.adapter, generator=bool(found.generator), aligner=bool(found.aligner))
    fitting = fit(config, speed, bench.task, bench.splits, bench.protocol, starts, bench.clock.left)
    view.say(fitting.sentence())
    task, splits, protocol = read_task(fitting.config)
    task = asked_as(task, fitting.config, protocol, bench.lm)
    trained = recounted(bench.trained, bench.lm.sha256, _prompts(splits), config.pretrained)
    fits = replace(bench, config=fitting.config, task=task, splits=splits, protocol=protocol, speed=speed)
    return replace(fits, trained=trained)
