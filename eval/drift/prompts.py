"""The prompts that the drift table is measured on: embedded once, kept in the cache, none of them from ``train``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agent.train.files import read_tensors, save_tensors
from cao.files import canonical_json, sha256_bytes
from cao.machine.assets import cache_dir
from cao.model.encoder import Encoder
from cao.model.loading import load_language_model
from cao.model.profiles import MODELS
from cao.progress import Progress
from cao.tasks import get_task
from cao.tasks.prompt_text import distinct
from cao.tasks.splits import part
from cao.types import Example
from tools.detect_drift.signals import CHARACTERS, option_signals

UNKNOWN = ("commonsense_qa", "gsm8k", "sciq", "social_iqa")
"""Sources of windows that no reference knows."""

MOST = 1000
"""Prompts of one task, at most."""

MODEL = "smollm2-135m"


@dataclass(frozen=True)
class Pool:
    """Prompts of one task that its reference does not hold.

    Attributes:
        prompts: distinct, one of each group.
        embeddings: (P, C).
    """

    prompts: list[str]
    embeddings: Tensor


def questions(task: str, seed: int) -> list[Example]:
    """Return at most 1,000 questions of the parts ``support``, ``reward`` and ``test``, one of each group."""
    loaded = get_task(task)
    parts = [example for name in ("support", "reward", "test") for example in part(loaded, name)]
    one_of_each = list({example.group or example.id: example for example in parts}.values())
    kept = [one_of_each[i] for i in distinct([example.prompt for example in one_of_each])]
    chosen = np.random.default_rng(seed).permutation(len(kept))[:MOST]
    return [kept[i] for i in sorted(chosen)]


def pools(tasks: Sequence[str], encoder: Encoder, seed: int, progress: Progress) -> dict[str, Pool]:
    """Return the pools of some tasks; what was embedded before is read from the cache."""
    pools = {}
    for done, task in enumerate(tasks):
        progress(f"prompts of {task}", done, len(tasks))
        prompts = [example.prompt for example in questions(task, seed)]
        rows = _kept(f"{encoder.sha256}{canonical_json(prompts)}", lambda it=prompts: encoder.embed(it))  # type: ignore[misc]
        pools[task] = Pool(prompts, rows)
    return pools


def signals(task: str, seed: int, progress: Progress) -> tuple[Tensor, str]:
    """Return the default model's option signals of a pool's questions, (P, 2), and the model's hash."""
    lm = load_language_model(MODELS[MODEL], path=None, device="cpu", offline=True)
    examples = questions(task, seed)
    key = f"{lm.sha256}{CHARACTERS}{canonical_json([example.id for example in examples])}"
    return _kept(key, lambda: option_signals(examples, lm, progress=progress)[0]), lm.sha256


def _kept(key: str, make: Callable[[], Tensor]) -> Tensor:
    """Return a tensor from the cache, made and kept there if it is not."""
    folder = cache_dir() / "drift-table"
    folder.mkdir(exist_ok=True)
    path = folder / f"{sha256_bytes(key.encode())}.safetensors"
    if not path.exists():
        save_tensors(path, {"rows": make()}, {})
    [rows] = read_tensors(path, "rows")
    assert bool(torch.isfinite(rows).all()), path
    return rows
