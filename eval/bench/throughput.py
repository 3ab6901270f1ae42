"""What a second worker is worth: the same scoring cells on an engine with one worker and with two, side by side.

Each worker has one thread, and setting up (a process, a model) is not counted: a consolidation or a table works for
hours with the workers that it has.
"""

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from agent.train.engine.engines import check_engine, open_engine
from agent.train.engine.settings import EngineSettings
from agent.train.engine.work import Run, Work
from cao.errors import InputError
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model
from cao.model.profiles import MODELS
from cao.progress import Progress
from cao.tasks import TASKS
from cao.tasks.splits import part
from cao.types import AdaptedModel, Example
from tools.evaluate import evaluate

WARM_UP = -1
"""The job that sets a worker up and is not counted."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        model: a model profile.
        model_path: a folder that takes the place of the profile's source.
        task: whose questions are scored.
        cells: independent jobs.
        questions: of each.
        repetitions: of both sides, one after the other in turn.
        offline: never touch the network.
    """

    model: str = "smollm2-135m"
    model_path: str | None = None
    task: str = "arc_easy"
    cells: int = 4
    questions: int = 40
    repetitions: int = 5
    offline: bool = True


@dataclass(frozen=True)
class _Desk:
    """What a worker works with."""

    lm: LanguageModel
    plan: Plan
    questions: list[Example]


@dataclass(frozen=True)
class _Done:
    """One cell: who did it, from when to when by the machine's clock, on how much of a core, and the losses, nats."""

    process: int
    began: float
    ended: float
    cpu_s: float
    losses: tuple[float, ...]


def throughput(settings: EngineSettings, plan: Plan) -> dict[str, Any]:
    """Measure what two workers do in the time of one.

    Args:
        settings: the engine; it runs on this machine.
        plan: what is measured.

    Returns:
        ``ratio`` (median over the repetitions), ``ratios``, ``seconds`` by workers, ``cpu_seconds`` of all cells by
        workers (where others use the machine, ``ratio`` says how the cores were shared and these say what the
        workers cost each other), ``equal`` (whether every answer was the same on both sides), and what was measured.

    Raises:
        InputError: an unknown model or task, or too few questions.
        UnavailableError: the engine, the model or the data are not at hand.
    """
    if plan.model not in MODELS or plan.task not in TASKS:
        raise InputError(f"no model is called {plan.model!r}, or no task {plan.task!r}")
    check_engine(settings)
    _questions(plan)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    cpu: dict[int, list[float]] = {1: [], 2: []}
    losses = set()
    with _one_thread():
        for _ in range(plan.repetitions):
            for count, found in seconds.items():
                done = _measured(settings.model_copy(update={"cpus": None}), count, plan)
                found.append(max(cell.ended for cell in done) - min(cell.began for cell in done))
                cpu[count].append(sum(cell.cpu_s for cell in done))
                losses.add(tuple(cell.losses for cell in done))
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {
        "engine": settings.kind,
        "model": plan.model,
        "task": plan.task,
        "cells": plan.cells,
        "questions": plan.questions,
        "threads": 1,
        "seconds": {str(count): found for count, found in seconds.items()},
        "cpu_seconds": {str(count): found for count, found in cpu.items()},
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "equal": len(losses) == 1,
    }


def _measured(settings: EngineSettings, count: int, plan: Plan) -> list[_Done]:
    """Return the cells in order, done by workers that were set up before."""
    work = Work(partial(_sit_down, plan), _score, offline=plan.offline)
    with open_engine(settings, count, work) as run:
        _warm_up(run, count)
        done = dict(run(range(plan.cells)))
    return [done[cell] for cell in range(plan.cells)]


def _warm_up(run: Run[int, _Done], count: int) -> None:
    """Give jobs that are not counted, until every worker has had one."""
    seen: set[int] = set()
    for _ in range(10):
        seen |= {done.process for _, done in run([WARM_UP] * 2 * count)}
        if len(seen) >= count:
            return


def _questions(plan: Plan) -> list[Example]:
    found = part(TASKS[plan.task], "test")[: plan.cells * plan.questions]
    if len(found) < plan.cells * plan.questions or not all(example.choices for example in found):
        raise InputError(f"{plan.task} has too few questions with choices; give fewer cells or questions")
    return found


def _sit_down(plan: Plan, progress: Progress) -> _Desk:
    lm = load_language_model(MODELS[plan.model], path=plan.model_path, offline=plan.offline)
    return _Desk(lm, plan, _questions(plan))


def _score(desk: _Desk, cell: int) -> _Done:
    first = max(cell, 0) * desk.plan.questions
    asked: Sequence[Example] = desk.questions[first : first + (4 if cell == WARM_UP else desk.plan.questions)]
    began, cpu = time.time(), time.process_time()
    items = evaluate(TASKS[desk.plan.task], asked, AdaptedModel(), "likelihood", lm=desk.lm)
    losses = tuple(item.loss for item in items)
    return _Done(os.getpid(), began, time.time(), time.process_time() - cpu, losses)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
