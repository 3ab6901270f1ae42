"""Gradients of tasks' losses by the LoRA weights, and how alike they are.

The paper compares gradients between tasks and does not say at which weights, of which loss or over which modules. Here:
the mean cross-entropy of the gold answers' tokens, differentiated by A and B of every module where a method stands
before it sees a gradient of the task, B questions at a time. The cosine is that of the whole vectors. Gradients of few
questions are noisy, so those of disjoint halves of one task's questions are compared too: no two tasks can be expected
to be more alike than a task is to itself.

Axis letters: T tasks, K batches, R draws.

Source: CAO-LLM B.1; the reading and the halves are this project's.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from cao.inference.answer_loss import add_answer_gradient
from cao.model.adapters import LoraWeights
from cao.model.cosines import Array
from cao.model.language_model import LanguageModel
from cao.model.packed_forward import Row

Gradient = Mapping[str, Tensor]
"""LoRA parameter, by its PEFT name → gradient."""

SHARED_MODULES = ("q_proj", "v_proj", "o_proj")
"""What MAML-en-LLM trains. Source: CAO-LLM H."""


def gradient(lm: LanguageModel, weights: LoraWeights, rows: Sequence[Row]) -> dict[str, Tensor]:
    """Return the gradient of the loss of some questions at an adapter, float32 on the CPU.

    Args:
        lm: the base model, undressed.
        weights: where the gradient is taken.
        rows: questions with their gold answers.
    """
    with lm.adapted(weights, trainable=True) as live:
        add_answer_gradient(lm, rows)
        made = dict[str, Tensor]()
        for name, parameter in live.items():
            assert parameter.grad is not None, name
            made[name] = parameter.grad.detach().float().cpu().clone()
        return made


def mean_gradient(batches: Sequence[Gradient]) -> dict[str, Tensor]:
    """Return the mean of K gradients, float32; every batch weighs the same."""
    return {name: torch.stack([each[name].float() for each in batches]).mean(0) for name in batches[0]}


def products(gradients: Sequence[Gradient], modules: Collection[str] | None = None) -> Array:
    """Return the inner products of T gradients, (T, T) float64.

    Args:
        gradients: of the same parameters.
        modules: last names of the modules that take part; None for all.
    """
    total = torch.zeros(len(gradients), len(gradients), dtype=torch.float64)
    for name in sorted(gradients[0]):
        module = name.removesuffix(".lora_A.weight").removesuffix(".lora_B.weight").rsplit(".", 1)[-1]
        if modules is None or module in modules:
            flat = torch.stack([each[name].flatten().double() for each in gradients])
            total += flat @ flat.T
    made: Array = total.numpy()
    return made


def pair_means(matrix: Array, draws: int) -> Array:
    """Return bootstrap draws over tasks of the mean cosine of two different tasks, (R,).

    A draw takes T tasks with replacement, and the mean over all pairs of its places that hold different tasks. One of a
    single task has no pair, and is drawn anew.

    Args:
        matrix: (T, T) cosines, or differences of them, T at least 2.
        draws: R.
    """
    rng, count = np.random.default_rng(0), len(matrix)
    assert count > 1, "one task has no pair"
    means: list[float] = []
    while len(means) < draws:
        taken = rng.integers(0, count, count)
        differ = taken[:, None] != taken[None, :]
        if differ.any():
            means.append(float(matrix[np.ix_(taken, taken)][differ].mean()))
    return np.array(means)
