"""The policy's training on the tiny random model, where strategies are judged by a rule and TTL is soon done."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import pytest

from agent.train.policy import situations
from agent.train.policy.rest_em import Judged
from agent.train_policy import main
from cao.model.adapters import LoraWeights
from cao.model.language_model import LanguageModel
from cao.strategies.ttl import TTL
from cao.types import Trial
from tools.apply_strategy import ttl

STEPS, BATCH = 2, 2
"""The most that TTL may take; strategies ask for up to a hundred steps of sixteen."""


def measured(trial: Trial) -> bool:
    """A random model is improved by next to nothing: here, every strategy that could be measured counts."""
    return trial.reward is not None


@contextmanager
def judging(improved: Callable[[Trial], bool]) -> Iterator[None]:
    """Judge strategies by a rule, and cut TTL short."""
    judged, train = situations.judged_of, ttl.train_ttl

    def short(lm: LanguageModel, prompts: list[str], asked: TTL, *rest: Any, **options: Any) -> LoraWeights:
        less = {"ttl_steps": min(asked.ttl_steps, STEPS), "batch_size": min(asked.batch_size, BATCH)}
        return train(lm, prompts, asked.model_copy(update=less), *rest, **options)

    def by_the_rule(trial: Trial, members: int = 1) -> Judged:
        return judged(trial, members).model_copy(update={"improved": improved(trial)})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(situations, "judged_of", by_the_rule)
        patch.setattr(ttl, "train_ttl", short)
        yield


def train(argv: list[str]) -> int:
    """The command, for a process of its own: every strategy that could be measured counts."""
    with judging(measured):
        return main(argv)


def call(command: Callable[[list[str]], int], argv: list[str]) -> tuple[int, str, str]:
    """Return a command's exit status and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = command(argv)
    return code, out.getvalue(), err.getvalue()
