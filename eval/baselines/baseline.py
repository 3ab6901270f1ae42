"""What a baseline is: a method with its source, its hyper-parameters, and the cost of what it did.

A baseline is prepared on the source tasks of the generator that serves a target, so it never saw the target either,
and then adapted to the target. Both say what they cost. A preparation is kept in a file by a fingerprint of all that it
depends on, and a training goes on from a checkpoint, so a kill costs the seconds since the last one.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field
from torch import Tensor

from cao.configuration import Amount, Count, CountOrNone
from cao.errors import InputError
from cao.files import canonical_json, sha256_bytes
from cao.model.adapters import LoraWeights
from cao.sealed import Header, read_sealed, write_sealed
from cao.types import Record
from eval.baselines.ground import Ground, Target
from eval.code import code_of

TEST_STEPS = 10
"""Optimiser steps at test time, each on all labelled support questions. Source: CAO-LLM H."""

Reads = Literal["nothing", "prompts", "support labels", "train labels", "reward labels", "description"]
"""What of the target a method reads before its test questions."""


class Spent(Record):
    """What was spent.

    Attributes:
        steps: of an optimiser.
        tokens: that a model read with or without a gradient, each time it read them; None where it was not kept.
        seconds: of work; None where it was not kept.
    """

    steps: int = 0
    tokens: int | None = 0
    seconds: float | None = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        """Return both together."""
        tokens = None if self.tokens is None or other.tokens is None else self.tokens + other.tokens
        seconds = None if self.seconds is None or other.seconds is None else round(self.seconds + other.seconds, 3)
        return Spent(steps=self.steps + other.steps, tokens=tokens, seconds=seconds)


class Budget(Record):
    """What a baseline may spend under equal rules.

    Attributes:
        preparing: tokens before the target is known; the search for a rate is among them.
        adapting: tokens on the target, of a source's mean length.
        steps: what ``adapting`` pays for, in steps on all labelled support questions: who reads these takes as many
            steps, however long the target's questions are.
        targets: reported tasks that one preparation serves.
        rates: learning rates to choose from, on train questions.
        trial: share of the tokens that one rate's trial gets.
    """

    preparing: CountOrNone
    adapting: CountOrNone
    steps: Count = TEST_STEPS
    targets: Count = 1
    rates: tuple[Amount, ...] = Field(default=(1e-4, 3e-4, 1e-3), min_length=1)
    trial: Amount = Field(default=0.1, le=0.3)

    @property
    def alone(self) -> int:
        """Tokens on the target for a method that prepares nothing: over all targets it reads as much as the others."""
        return self.adapting + self.preparing // self.targets

    def tried(self) -> "Budget":
        """Return the budget of one rate's trial."""
        return self._times(self.trial)

    def left(self) -> "Budget":
        """Return the budget that is left behind the trials; one rate alone needs none."""
        return self._times(max(0.0, 1 - self.trial * len(self.rates))) if len(self.rates) > 1 else self

    def _times(self, share: float) -> "Budget":
        tokens = {"preparing": int(self.preparing * share), "adapting": int(self.adapting * share)}
        return self.model_copy(update=tokens)


@dataclass(frozen=True)
class Prepared:
    """What a preparation leaves.

    Attributes:
        tensors: float32, on the CPU; none for a method without a preparation.
        spent: on it.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    spent: Spent = field(default_factory=Spent)


@dataclass(frozen=True)
class Adapted:
    """A baseline on a target.

    Attributes:
        weights: the adapter; None for the base model.
        spent: on the target alone.
    """

    weights: LoraWeights | None
    spent: Spent = field(default_factory=Spent)


@dataclass(frozen=True)
class Place:
    """Where a training goes on from.

    Attributes:
        fingerprint: of everything that it depends on.
        checkpoint: its file; None keeps nothing.
        every_s: seconds between two writings of it.
    """

    fingerprint: str = ""
    checkpoint: Path | None = None
    every_s: float = 30.0


class Baseline(ABC):
    """A method with its hyper-parameters.

    Attributes:
        name: in tables and on the command line.
        reads: what of the target it reads.
        rated: whether it has a learning rate to be chosen.
        of_sources: whether all that it trains for a target is checkpoints of other tasks, of no question of the target.
        least: what it reads of the target however small the budget is, in words; empty where the budget bounds it.
    """

    name: ClassVar[str]
    reads: ClassVar[Reads]
    rated: ClassVar[bool] = True
    of_sources: ClassVar[bool] = False
    least: ClassVar[str] = ""

    @classmethod
    @abstractmethod
    def paper(cls) -> Self:
        """Return the method with its paper's own hyper-parameters."""

    @classmethod
    @abstractmethod
    def equal(cls, budget: Budget, rate: float, ground: Ground) -> Self:
        """Return the method with the steps that a budget pays for, at a rate.

        Args:
            budget: tokens.
            rate: of the grid.
            ground: whose objective and batches it takes.
        """

    @abstractmethod
    def settings(self) -> Record:
        """Return the hyper-parameters."""

    @classmethod
    def pool(cls, ground: Ground, task: str) -> tuple[str, ...]:
        """Return the tasks that it may learn from for a target: the sources of the generator that never saw it."""
        return ground.variant.sources

    def prepare(self, ground: Ground, place: Place) -> Prepared:
        """Return what is learnt from the source tasks; nothing, where a method has no such part.

        Args:
            ground: the source tasks.
            place: where the training goes on from.

        Raises:
            InputError: it diverged, or there is nothing to train on.
            UnavailableError: something needed is not installed.
        """
        return Prepared()

    @abstractmethod
    def adapt(self, ground: Ground, prepared: Prepared, target: Target, place: Place) -> Adapted:
        """Return the adapter for a target.

        Args:
            ground: the model and the source tasks.
            prepared: what ``prepare`` returned.
            target: what ``reads`` names of it is read, and nothing else.
            place: where the training goes on from.

        Raises:
            InputError: it diverged, or the target lacks what the method reads.
            UnavailableError: something needed is not installed.
        """


class PreparedHeader(Header):
    """The header of a preparation's file.

    Attributes:
        format: of the file.
        fingerprint: hash of everything that it depends on.
        spent: on it.
    """

    what: ClassVar[str] = "a baseline's preparation"

    format: Literal["cao-baseline-1"] = "cao-baseline-1"
    fingerprint: str
    spent: Spent


def prepared(baseline: Baseline, ground: Ground, every_s: float = 30.0) -> Prepared:
    """Return a baseline's preparation; one that is finished is read from its file.

    Args:
        baseline: with its hyper-parameters.
        ground: the source tasks.
        every_s: seconds between two checkpoints.

    Raises:
        InputError: the preparation failed, or a file of it is damaged or of something else.
        UnavailableError: something needed is not installed.
    """
    fingerprint, path = fingerprint_of(baseline, ground), preparation_path(baseline, ground)
    if path.exists():
        header, tensors, _ = read_sealed(path, PreparedHeader)
        if header.fingerprint != fingerprint:
            raise InputError(f"{path}: was made of something else than its name says; delete it to make it again")
        return Prepared(tensors, header.spent)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    made = baseline.prepare(ground, Place(fingerprint, partial, every_s))
    write_sealed(path, PreparedHeader(fingerprint=fingerprint, spent=made.spent), made.tensors)
    partial.unlink(missing_ok=True)
    return made


def adapted(baseline: Baseline, ground: Ground, ready: Prepared, target: Target, every_s: float = 30.0) -> Adapted:
    """Return a baseline's adapter for a target, from a checkpoint of a killed training where there is one.

    Args:
        baseline: with its hyper-parameters.
        ground: the source tasks.
        ready: its preparation.
        target: the task.
        every_s: seconds between two checkpoints.

    Raises:
        InputError: the training failed.
        UnavailableError: something needed is not installed.
    """
    fingerprint = fingerprint_of(baseline, ground, target)
    ground.folder.mkdir(parents=True, exist_ok=True)
    partial = ground.folder / f"{baseline.name}-{fingerprint[:16]}.partial"
    began = time.monotonic()
    made = baseline.adapt(ground, ready, target, Place(fingerprint, partial, every_s))
    partial.unlink(missing_ok=True)
    seconds = made.spent.seconds
    if seconds == 0.0:  # nothing was trained: what it took to find the adapter
        seconds = round(time.monotonic() - began, 3)
    return replace(made, spent=made.spent.model_copy(update={"seconds": seconds}))


def preparation_path(baseline: Baseline, ground: Ground) -> Path:
    """Return where a baseline's finished preparation lies, or will lie."""
    return ground.folder / f"{baseline.name}-{fingerprint_of(baseline, ground)[:16]}.safetensors"


def fingerprint_of(baseline: Baseline, ground: Ground, target: Target | None = None) -> str:
    """Return the hash of everything that a baseline's training depends on: its preparation, or that on a target."""
    depends_on = {
        "code": code_of(type(baseline).__module__, "eval.baselines.cell"),
        "name": baseline.name,
        "settings": baseline.settings().model_dump(mode="json"),
        "ground": ground.about,
        "target": target.about(ground.lm.profile.answer_style) if target else None,
    }
    return sha256_bytes(canonical_json(depends_on).encode())
