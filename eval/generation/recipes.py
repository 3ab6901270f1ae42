"""What is compared on a task: the generated and the aligned adapter, and the controls that they have to beat.

Source: CAO-LLM §2.2, §2.3; the controls are this project's.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from agent.train.generator.steps import Consolidation
from agent.train.generator.variants import Variant, variants
from cao.files import canonical_json, sha256_bytes, sha256_file
from cao.model.adapters import LoraWeights
from cao.model.encoder import pool
from cao.tasks import TASKS
from cao.tasks.splits import Part, choose, part
from cao.types import Example
from eval.generation.consolidation import serving
from eval.questions import asked_prompts
from tools.align_lora.aligner import TrainedAligner
from tools.align_lora.aligner_file import load_aligner
from tools.align_lora.task_vector import task_vector
from tools.detect_drift.reference import IN_DOMAIN
from tools.generate_lora.conditioning import condition
from tools.generate_lora.generator import TrainedGenerator
from tools.generate_lora.prompts import usable_prompts

REPORTED: tuple[str, ...] = (*IN_DOMAIN, "gsm8k", "math", "social_iqa", "mmlu_logic", "mmlu_cs", "medqa")
"""The tasks of the report, and those whose prompts serve as another task's."""

PROMPTS = 32
"""Support prompts that an adapter is generated from."""

BASE = "base"
"""The recipe, and the hash, of no adapter."""


@dataclass(frozen=True)
class Recipe:
    """How an adapter is made, known by everything that decides what comes of it.

    Attributes:
        key: kind and hashes of the inputs; equal keys make equal adapters.
        make: makes it with a workshop, any worker's own; None for the base model.
        label: what it is, for progress.
    """

    key: str
    make: "Callable[[Workshop], LoraWeights] | None" = field(default=None, repr=False, compare=False)
    label: str = field(default="", compare=False)


@dataclass
class Workshop:
    """Makes everything that is compared, from a finished consolidation.

    Attributes:
        consolidation: the opened folder.
        split: part of each task that is scored.
        limit: questions of a task, at most.
        seeds: each chooses other support prompts.
    """

    consolidation: Consolidation
    split: Part
    limit: int
    seeds: tuple[int, ...]
    _questions: dict[str, list[Example]] = field(default_factory=dict, repr=False)
    _parts: dict[str, list[Example]] = field(default_factory=dict, repr=False)
    _last: tuple[str, LoraWeights] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.trained = lru_cache(maxsize=2)(self._load)  # a generator fills tens of megabytes
        self._file_sha256 = lru_cache(maxsize=None)(sha256_file)

    @cached_property
    def full(self) -> Variant:
        """The variant that is trained on every source."""
        return variants(self.consolidation.preset)[0]

    def is_source(self, task: str) -> bool:
        """Return whether there is a checkpoint of the task itself, and a generator that was trained on it."""
        return task in self.full.sources

    # data ------------------------------------------------------------------------------------------------------------

    def questions(self, task: str) -> list[Example]:
        """Return the questions that are scored, the same for every seed."""
        if task not in self._questions:
            self._questions[task] = choose(part(TASKS[task], self.split), self.limit, f"0:{self.split}")
        return self._questions[task]

    def support(self, task: str, seed: int) -> list[Example]:
        """Return the examples whose prompts a seed chooses; blank and repeated ones are left out, as in a run."""
        if task not in self._parts:
            self._parts[task] = part(TASKS[task], "support")
        chosen = choose(self._parts[task], PROMPTS, f"{seed}:support")
        kept = usable_prompts([example.prompt for example in chosen], None, PROMPTS).kept
        return [chosen[i] for i in kept]

    # adapters --------------------------------------------------------------------------------------------------------

    def _load(self, name: str) -> tuple[TrainedGenerator, TrainedAligner]:
        variant = next(v for v in variants(self.consolidation.preset) if v.name == name)
        device = self.consolidation.lm.device
        generator = self.consolidation.generator(variant).to(device)
        path = self._variant_file(variant, "aligner")
        aligner = load_aligner(path, generator.layout, generator.initial, generator_sha256=generator.sha256)
        return generator, aligner.to(device)

    def _variant_file(self, variant: Variant, kind: str) -> Path:
        return self.consolidation.folder / "variants" / variant.name / f"{kind}.safetensors"

    def make(self, recipe: Recipe) -> LoraWeights | None:
        """Return the adapter of a recipe, None for the base model."""
        return recipe.make(self) if recipe.make else None

    def generate(self, variant: Variant, prompts: Sequence[str]) -> LoraWeights:
        """Return the adapter that a variant's generator makes from prompts; the last one is remembered."""
        key = f"{variant.name}:{_sha256(prompts)}"
        if self._last is None or self._last[0] != key:
            made = condition(prompts, self.trained(variant.name)[0], self.consolidation.encoder).adapter()
            self._last = key, made
        return self._last[1]

    def align(self, variant: Variant, examples: Sequence[Example], task: str) -> LoraWeights:
        """Return the generated adapter of a task's prompts, aligned to them."""
        aligner, lm = self.trained(variant.name)[1], self.consolidation.lm
        weights = self.generate(variant, [example.prompt for example in examples])
        asked = asked_prompts(task, examples, lm.profile.answer_style)
        return aligner.align(weights, task_vector(lm, weights, asked, aligner.header.vector_prompts))

    def average(self, variant: Variant, names: Sequence[str]) -> LoraWeights:
        """Return the mean of stored averages as an adapter, A and B separately, all from one initialisation.

        Args:
            variant: whose generator knows that initialisation.
            names: ``checkpoints/TASK`` or ``unions/VARIANT``.
        """
        mean = torch.stack([self.consolidation.average(name) for name in names]).mean(0)
        return self.trained(variant.name)[0].to_weights(mean, {"made_by": f"mean of {len(names)} trained"})

    @cached_property
    def _known(self) -> dict[str, Tensor]:
        """The mean prompt embedding of each source, (C,), from the token states that its generators saw."""
        return {task: _mean_embedding(self.consolidation.states(task)) for task in self.full.sources}

    def nearest(self, task: str, variant: Variant, seed: int) -> str:
        """Return the source of a variant whose prompts are nearest to a task's support prompts, by cosine."""
        embeddings = self.consolidation.encoder.embed([example.prompt for example in self.support(task, seed)])
        mean = embeddings.mean(0)
        return max(variant.sources, key=lambda source: float(torch.cosine_similarity(mean, self._known[source], dim=0)))

    # recipes ---------------------------------------------------------------------------------------------------------

    def generated(self, task: str, seed: int, variant: Variant, *, shuffle: bool = False) -> Recipe:
        """Return the recipe of a generated adapter; with ``shuffle`` from the same words in another order."""
        prompts = [example.prompt for example in self.support(task, seed)]
        prompts = shuffled(prompts, seed) if shuffle else prompts
        key = f"generated:{self._file_sha256(self._variant_file(variant, 'generator'))}:{_sha256(prompts)}"
        label = f"{variant.name} generated from {'shuffled ' if shuffle else ''}{task}, seed {seed}"
        return Recipe(key, partial(Workshop.generate, variant=variant, prompts=prompts), label)

    def aligned(self, task: str, seed: int, variant: Variant) -> Recipe:
        """Return the recipe of an aligned adapter."""
        examples = self.support(task, seed)
        style = self.consolidation.lm.profile.answer_style
        files = [self._file_sha256(self._variant_file(variant, kind)) for kind in ("generator", "aligner")]
        texts = [[example.prompt for example in examples], asked_prompts(task, examples, style)]
        key = f"aligned:{':'.join(files)}:{_sha256(texts)}"
        label = f"{variant.name} aligned to {task}, seed {seed}"
        return Recipe(key, partial(Workshop.align, variant=variant, examples=examples, task=task), label)

    def averaged(self, variant: Variant, names: Sequence[str], label: str) -> Recipe:
        """Return the recipe of a mean of stored averages."""
        files = [self._file_sha256(self.consolidation.folder / f"{name}-average.safetensors") for name in names]
        return Recipe(
            f"average:{':'.join(files)}", partial(Workshop.average, variant=variant, names=tuple(names)), label
        )

    def compared(self, task: str) -> dict[str, list[Recipe]]:
        """Return what is compared on a task: name → a recipe for each seed, or a single one.

        ``wrong`` takes another task's prompts for each seed. ``checkpoint`` and ``seen``, the generator that was
        trained on the task, are there for sources only.
        """
        variant, seeds = serving(self.consolidation, task), self.seeds
        foreign = others(task, len(seeds))
        sources = [f"checkpoints/{source}" for source in variant.sources]
        compared = {
            "base": [Recipe(BASE, None, "the base model")],
            "generated": [self.generated(task, seed, variant) for seed in seeds],
            "aligned": [self.aligned(task, seed, variant) for seed in seeds],
            "mean": [self.averaged(variant, sources, f"mean of {variant.name}'s sources")],
            "nearest": [self._nearest_recipe(task, variant, seed) for seed in seeds],
            "union": [self.averaged(variant, [f"unions/{variant.name}"], f"Union-Train {variant.name}")],
            "wrong": [self.generated(other, seed, variant) for other, seed in zip(foreign, seeds, strict=True)],
            "shuffled": [self.generated(task, seed, variant, shuffle=True) for seed in seeds],
        }
        if self.is_source(task):
            compared["checkpoint"] = [self.averaged(self.full, [f"checkpoints/{task}"], f"checkpoint of {task}")]
            compared["seen"] = [self.generated(task, seed, self.full) for seed in seeds]
        return compared

    def _nearest_recipe(self, task: str, variant: Variant, seed: int) -> Recipe:
        source = self.nearest(task, variant, seed)
        return self.averaged(variant, [f"checkpoints/{source}"], f"checkpoint of {source}")


def others(task: str, count: int) -> list[str]:
    """Return other reported tasks, ``count`` of them and all different, spread over the list."""
    rest = [name for name in REPORTED if name != task]
    assert count <= len(rest), (task, count)
    first = (REPORTED.index(task) if task in REPORTED else 0) + len(rest) // (2 * count)  # not the list's next, its kin
    return [rest[(first + i * len(rest) // count) % len(rest)] for i in range(count)]


def shuffled(prompts: Sequence[str], seed: int) -> list[str]:
    """Return prompts of the same lengths in words, all words of all of them in another order."""
    words = [word for prompt in prompts for word in prompt.split()]
    random.Random(f"{seed}:shuffled").shuffle(words)
    remaining = iter(words)
    return [" ".join(next(remaining) for _ in prompt.split()) for prompt in prompts]


def _mean_embedding(states: Sequence[Tensor]) -> Tensor:
    """Return (C,), the mean of the prompts' embeddings.

    Args:
        states: token states of each prompt, (l_i, C).
    """
    each = [pool(state.float()[None], torch.ones(1, len(state), dtype=torch.bool))[0] for state in states]
    return torch.stack(each).mean(0)


def _sha256(texts: object) -> str:
    return sha256_bytes(canonical_json(texts).encode())
