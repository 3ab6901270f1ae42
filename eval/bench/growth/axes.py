"""What grows in ``growth``, each with the project's own code at work."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from cao.inference.scoring import score_queries
from cao.model.adapters import LoraWeights, initial_lora
from cao.model.language_model import LanguageModel
from cao.model.profiles import LORA_TARGETS
from cao.tasks.base import Task
from cao.types import AdaptedModel, Branch, Example, Query
from eval.bench.growth.measure import Axis
from tools.align_lora.presets import EMBEDDED, AlignerPreset
from tools.align_lora.training import SourceTask, train_aligner
from tools.detect_drift import detect_drift
from tools.detect_drift.known_tasks import KnownTasks, Reference
from tools.evaluate import evaluate
from tools.generate_lora.tokens import TokenLayout, flatten

QUESTIONS, LENGTHS, TASKS = (8, 16, 32, 64), (64, 128, 256, 512, 1024), (2, 4, 8, 16)
LAYERS, FEWER_LAYERS = (32, 64, 128, 256, 512), (8, 16, 32, 64, 128)
"""Numbers of layers that give the adapter its length, where it is used and where the aligner is trained."""
CHUNKS_PER_STEP = 8
"""So that even the shortest adapter takes several steps."""
SIDE = 2
"""Questions of each prompt length."""
WIDTH, SAMPLE, WINDOW = 384, 128, 32
"""Of made embeddings: channels, rows of a known task, rows of the window."""


def questions_axis(
    lm: LanguageModel, task: Task, examples: Sequence[Example], sizes: Sequence[int] = QUESTIONS
) -> Axis:
    """Return scoring against the number of questions, as many of ``examples`` as there are at most."""

    def prepare(size: int) -> Callable[[], object]:
        return lambda: evaluate(task, examples[:size], AdaptedModel(), "likelihood", lm=lm)

    kept = tuple(size for size in sizes if size <= len(examples))
    return Axis("questions", f"scoring {task.name}", kept, prepare)


def length_axis(lm: LanguageModel, text: str, sizes: Sequence[int] = LENGTHS) -> Axis:
    """Return scoring against the prompt's length in tokens.

    Args:
        lm: the model.
        text: what prompts are cut from; repeated until it is long enough.
        sizes: tokens of a prompt.
    """
    ids = lm.encode(text, special=False)
    ids = ids * (max(sizes) * SIDE // len(ids) + 2)

    def prepare(size: int) -> Callable[[], object]:
        branches = (Branch(scored=" yes"), Branch(scored=" no"))
        prompts = [lm.tokenizer.decode(ids[i * size : (i + 1) * size]) for i in range(SIDE)]
        queries = [Query(prefix=prompt, branches=branches) for prompt in prompts]
        return lambda: score_queries(lm, queries)

    return Axis("prompt tokens", f"scoring {SIDE} questions", tuple(sizes), prepare)


def _layout(lm: LanguageModel, layers: int) -> TokenLayout:
    """Return the model's layout as if it had another number of layers."""
    own = TokenLayout.of(lm.lora_shapes(), lm.profile.lora_rank, lm.profile.lora_alpha, (16, 16))
    return replace(own, layers=layers)


def _adapter(layout: TokenLayout) -> LoraWeights:
    return initial_lora(layout.shapes(), LORA_TARGETS, layout.rank, layout.alpha, 0, "0" * 64)


def _trained(layout: TokenLayout, tasks: int, width: int, preset: AlignerPreset) -> Callable[[], object]:
    """Return the training of an aligner on ``tasks`` made tasks, in which each weight is seen twice on average."""
    draws = torch.Generator().manual_seed(0)
    shape = (2, layout.layers, layout.length)
    made = [
        SourceTask(f"t{i}", torch.randn(shape, generator=draws) * 1e-3, torch.randn(2, width, generator=draws))
        for i in range(tasks)
    ]
    chunks = preset.shape(width, layout.total).chunks
    step = min(CHUNKS_PER_STEP, chunks)
    sized = preset.model_copy(
        update={"meta_epochs": math.ceil(2 * tasks * chunks / step), "chunks_per_step": step, "target": "generated"}
    )
    initial = _adapter(layout)
    return lambda: train_aligner(made, layout, initial, preset=sized, seed=0, generator_sha256="0" * 64)


def adapter_axes(
    lm: LanguageModel,
    layers: Sequence[int] = LAYERS,
    fewer: Sequence[int] = FEWER_LAYERS,
    tasks: Sequence[int] = TASKS,
    preset: AlignerPreset = EMBEDDED,
) -> list[Axis]:
    """Return the aligner's use against D, and its training against K·D.

    Args:
        lm: its layers' shapes are used.
        layers: numbers of layers that D is taken at, in use.
        fewer: the same in training; the second is that of the tasks' axis.
        tasks: numbers of tasks.
        preset: the aligner's sizes.
    """
    width = int(lm.config.hidden_size)
    used, learnt = ({_layout(lm, n).total: _layout(lm, n) for n in counts} for counts in (layers, fewer))
    second = list(learnt.values())[1]

    def use(total: int) -> Callable[[], object]:
        layout = used[total]
        initial = _adapter(layout)
        aligner = train_aligner(
            [SourceTask("t", torch.ones(1, layout.layers, layout.length), torch.ones(1, width))],
            layout,
            initial,
            preset=preset.model_copy(update={"meta_epochs": 1, "target": "generated"}),
            seed=0,
            generator_sha256="0" * 64,
        )[0]
        assert flatten(initial.tensors, layout).numel() == total
        vector = torch.ones(width)
        return lambda: aligner.align(initial, vector)

    return [
        Axis("adapter weights D", "aligning one adapter", tuple(used), use),
        Axis(
            "tasks K",
            "training the aligner, each weight twice",
            tuple(tasks),
            lambda k: _trained(second, k, width, preset),
        ),
        Axis(
            "adapter weights D in training",
            "training the aligner on 2 tasks, each weight twice",
            tuple(learnt),
            lambda total: _trained(learnt[total], 2, width, preset),
        ),
    ]


def drift_axis(tasks: Sequence[int] = TASKS, permutations: int = 199) -> Axis:
    """Return the drift test against the number of known tasks, on made embeddings."""

    def prepare(count: int) -> Callable[[], object]:
        draws = torch.Generator().manual_seed(0)
        unit = torch.nn.functional.normalize
        known = KnownTasks(
            {
                f"t{i}": Reference(
                    unit(torch.randn(WIDTH, generator=draws) + torch.randn(SAMPLE, WIDTH, generator=draws), dim=1)
                )
                for i in range(count)
            }
        )
        window = unit(torch.randn(WINDOW, WIDTH, generator=draws), dim=1)
        prompts = [f"prompt {i}" for i in range(WINDOW)]
        detect_drift(prompts, window, known, permutations=permutations)  # what is learnt of known tasks, once
        return lambda: detect_drift(prompts, window, known, permutations=permutations)

    return Axis("known tasks K", "testing a window for drift", tuple(tasks), prepare)
