"""Checkpoint collection: the answers' loss against a plain one, the order of questions, training, and kills."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from cao.errors import InputError
from cao.language_model import LanguageModel
from cao.tasks.base import Task, choice_example
from cao.types import Example
from tools.evaluate.likelihood import Row
from tools.generate_lora.answers import answer_loss, answer_rows
from tools.generate_lora.checkpoints import WINDOW, CheckpointPreset, batches, collect
from tools.generate_lora.tokens import TokenLayout, flatten

QUICK = CheckpointPreset(warm_steps=6, warm_rate=1e-2, kept_steps=3, kept_rate=1e-3, batch=4)
ANIMALS = ("bird", "fish", "old grey elephant", "snake", "bee")


def examples(count: int = 12) -> list[Example]:
    return [
        choice_example(f"Which animal is number {i}{' of them all' * (i % 4)}?", ANIMALS, i % len(ANIMALS))
        for i in range(count)
    ]


class Asked(Task):
    """The smallest task: its examples are at hand."""


def task() -> Task:
    return Asked(name="animals", load=lambda: tuple(examples()), source="", grading="")  # type: ignore[call-arg]


def rows_of(lm: LanguageModel, limit: int = 64) -> list[Row]:
    return answer_rows(lm, task(), examples(), limit)


def layout_of(lm: LanguageModel) -> TokenLayout:
    return TokenLayout.of(lm.lora_shapes(), lm.profile.lora_rank, lm.profile.lora_alpha, (8, 16))
