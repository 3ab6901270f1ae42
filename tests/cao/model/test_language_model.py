"""The dtype of a model: every place that computes follows it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from agent.train.policy.fine_tune import Lesson, fine_tune
from agent.train.policy.settings import Tuning
from cao.inference.answer_loss import answer_loss, answer_rows
from cao.inference.sampling import sample
from cao.machine.linear import FastLinear
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model
from cao.strategies.ttl import TTL
from cao.tasks.base import Task, choice_example
from cao.types import AdaptedModel, Dtype, LatentSettings
from tests.conftest import TINY
from tools.align_lora.task_vector import task_vector
from tools.apply_strategy.ttl import train_ttl
from tools.evaluate import evaluate

PROMPTS = ["Question: Which of these animals can fly?", "Why do plants need the sun?", "Tom has 12 apples."]
EXAMPLES = [choice_example(prompt, ("the bird", "to sleep", "a fish"), i) for i, prompt in enumerate(PROMPTS)]
TASK = Task("tiny", "Tiny", "a test", lambda: EXAMPLES)


@pytest.fixture
def load(tiny_model_folder: Path) -> Callable[[Dtype], LanguageModel]:
    return lambda dtype: load_language_model(TINY, path=str(tiny_model_folder), dtype=dtype, offline=True)


class Refusing(TorchDispatchMode):
    """Raises where an operation sees a tensor of one dtype, and counts the products that it let pass."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.products = dtype, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in (*args, *(result if isinstance(result, tuple | list) else [result])):
            if isinstance(value, torch.Tensor) and value.dtype == self.dtype:
                raise AssertionError(f"{func} computes in {self.dtype}")
        self.products += any(name in str(func) for name in ("mm", "linear"))
        return result


def work(lm: LanguageModel) -> dict[str, Callable[[], Any]]:
    """Everything that computes with the language model."""
    adapter, latent = lm.fresh_lora(0), AdaptedModel(members=(None,), latent=LatentSettings(slot_steps=2, slot_lr=0.1))
    ttl = TTL(family="TTL", ttl_steps=2, learning_rate=1e-3, batch_size=2, shuffle_data=True)
    rows = answer_rows(lm, TASK, EXAMPLES, 64)
    greedy: Any = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "max_tokens": 3, "generator": torch.Generator()}

    def checkpoints() -> None:
        with lm.adapted(adapter, trainable=True):
            answer_loss(lm, rows, gradient=True).backward()  # type: ignore[no-untyped-call]

    return {
        "scoring": lambda: evaluate(TASK, EXAMPLES, AdaptedModel(), "likelihood", lm=lm),
        "latent": lambda: evaluate(TASK, EXAMPLES, latent, "likelihood", lm=lm),
        "generation": lambda: evaluate(TASK, EXAMPLES, AdaptedModel(), "generate", lm=lm),
        "task vector": lambda: task_vector(lm, adapter, PROMPTS, 3),
        "test-time learning": lambda: train_ttl(lm, PROMPTS, ttl, adapter, 0),
        "checkpoints": checkpoints,
        "sampling": lambda: sample(lm, PROMPTS[0], 2, **greedy),
        "fine-tuning": lambda: fine_tune(lm, [Lesson(PROMPTS[0], ["{}"])], adapter, Tuning(epochs=1, seed=0)),
    }


PLACES = (
    "scoring",
    "latent",
    "generation",
    "task vector",
    "test-time learning",
    "checkpoints",
    "sampling",
    "fine-tuning",
)


@pytest.mark.parametrize("place", PLACES)
def test_a_float32_model_computes_in_nothing_less(load: Callable[[Dtype], LanguageModel], place: str) -> None:
    lm = load("float32")
    with Refusing(torch.bfloat16) as mode:
        work(lm)[place]()
    assert mode.products > 0
    with pytest.raises(AssertionError, match="computes in"), Refusing(torch.bfloat16):
        work(load("bfloat16"))[place]()  # the mode sees what it should


def test_both_dtypes_hold_the_same_weights(load: Callable[[Dtype], LanguageModel]) -> None:
    exact, half = load("float32"), load("bfloat16")
    assert (exact.dtype, half.dtype) == ("float32", "bfloat16")
    assert exact.sha256 == half.sha256
    for a, b in zip(exact.model.parameters(), half.model.parameters(), strict=True):
        assert torch.equal(a, b.float())
    assert any(type(part) is FastLinear for part in exact.model.modules())


def test_the_model_says_what_it_computes_with(load: Callable[[Dtype], LanguageModel]) -> None:
    lm = load("float32")
    assert lm.compute is not None
    assert (lm.compute.dtype, lm.compute.device) == ("float32", "cpu")
    assert lm.compute.rates is not None


def test_dtypes_agree_but_for_rounding(load: Callable[[Dtype], LanguageModel]) -> None:
    exact, half = (
        evaluate(TASK, EXAMPLES, AdaptedModel(), "likelihood", lm=load(dtype)) for dtype in ("float32", "bfloat16")
    )
    for a, b in zip(exact, half, strict=True):
        assert a.scores == pytest.approx(b.scores, abs=0.05)
        assert a.scores != b.scores
