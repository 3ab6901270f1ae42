"""Makes the adapters that are compared, from a finished consolidation.

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
from cao.tasks import get_task
from cao.tasks.splits import DEFAULT_SIZES, choose, part
from cao.types import Example
from eval.generation.sheets import PROMPTS
from eval.questions import asked_prompts
from tools.align_lora.aligner import TrainedAligner
from tools.align_lora.aligner_file import load_aligner
from tools.align_lora.task_vector import condition as aligner_condition
from tools.detect_drift.reference import IN_DOMAIN
from tools.generate_lora.conditioning import condition
from tools.generate_lora.generator import TrainedGenerator
from tools.generate_lora.prompts import usable_prompts

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
        reward: labelled questions of a target that baselines may read: those that every row of a table has.
    """

    consolidation: Consolidation
    reward: int = DEFAULT_SIZES["reward"]
    _parts: dict[str, list[Example]] = field(default_factory=dict, init=False, repr=False)
    _last: tuple[str, LoraWeights] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.trained = lru_cache(maxsize=2)(self._load)  # a generator fills tens of megabytes
        self._file_sha256 = lru_cache(maxsize=None)(sha256_file)
        self._source_mean = lru_cache(maxsize=None)(self._of_source)
        self._support_mean = lru_cache(maxsize=None)(self._of_support)

    @cached_property
    def full(self) -> Variant:
        """The variant that is trained on every source."""
        return variants(self.consolidation.preset)[0]

    def support(self, task: str, seed: int) -> list[Example]:
        """Return the examples whose prompts a seed chooses; blank and repeated ones are left out, as in a run."""
        if task not in self._parts:
            self._parts[task] = part(get_task(task), "support")
        chosen = choose(self._parts[task], PROMPTS, f"{seed}:support")
        kept = usable_prompts([example.prompt for example in chosen], None, PROMPTS).kept
        return [chosen[i] for i in kept]

    # what the folder has ---------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Return whether the folder has a file, such as ``unions/full-average`` or ``variants/full/aligner``."""
        return (self.consolidation.folder / f"{name}.safetensors").is_file()

    def _load(self, name: str) -> tuple[TrainedGenerator, TrainedAligner | None]:
        variant = next(v for v in variants(self.consolidation.preset) if v.name == name)
        device = self.consolidation.lm.device
        generator = self.consolidation.generator(variant).to(device)
        if not self.has(f"variants/{name}/aligner"):
            return generator, None
        path = self._file(f"variants/{name}/aligner")
        aligner = load_aligner(path, generator.layout, generator.initial, generator_sha256=generator.sha256)
        return generator, aligner.to(device)

    def _file(self, name: str) -> Path:
        return self.consolidation.folder / f"{name}.safetensors"

    # adapters --------------------------------------------------------------------------------------------------------

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

    def without_prompts(self, variant: Variant) -> LoraWeights:
        """Return the adapter that a variant's generator makes without prompts."""
        return self.trained(variant.name)[0].unconditional()

    def centre(self, variant: Variant) -> LoraWeights:
        """Return the adapter at the centre of what a variant's generator makes."""
        made = self.trained(variant.name)[0].centre_weights()
        assert made is not None, variant.name
        return made

    def align(self, variant: Variant, prompts: Sequence[str], asked: list[str]) -> LoraWeights:
        """Return the adapter generated from prompts, aligned to what a model is asked."""
        aligner, lm = self.trained(variant.name)[1], self.consolidation.lm
        assert aligner is not None, variant.name
        weights = self.generate(variant, prompts)
        limit, whole = aligner.header.vector_prompts, aligner.reads_base_state
        return aligner.align(weights, aligner_condition(lm, weights, asked, limit, with_base_state=whole))

    def average(self, variant: Variant, names: Sequence[str]) -> LoraWeights:
        """Return the mean of stored averages as an adapter, A and B separately, all from one initialisation.

        Args:
            variant: whose generator knows that initialisation.
            names: ``checkpoints/TASK`` or ``unions/VARIANT``.
        """
        mean = torch.stack([self.consolidation.average(name) for name in names]).mean(0)
        return self.trained(variant.name)[0].to_weights(mean, {"made_by": f"mean of {len(names)} trained"})

    def fused(self, recipes: Sequence[Recipe]) -> LoraWeights:
        """Return the adapter whose ΔW is the mean of those of recipes."""
        made = []
        for recipe in recipes:
            weights = self.make(recipe)
            assert weights is not None, recipe.label
            made.append(weights)
        return fused(made)

    # sources ---------------------------------------------------------------------------------------------------------

    def _of_source(self, source: str) -> Tensor:
        """Return the mean prompt embedding of a source, (C,), from the token states that its generators saw."""
        return _mean_embedding(self.consolidation.states(source))

    def _of_support(self, task: str, seed: int) -> Tensor:
        embeddings = self.consolidation.encoder.embed([example.prompt for example in self.support(task, seed)])
        return embeddings.mean(0)

    def nearest(self, task: str, variant: Variant, seed: int) -> tuple[str, float]:
        """Return the source of a variant whose prompts are nearest to a task's support prompts, and the cosine."""
        mean = self._support_mean(task, seed)
        cosines = {
            source: float(torch.cosine_similarity(mean, self._source_mean(source), dim=0)) for source in variant.sources
        }
        name = max(cosines, key=lambda source: cosines[source])
        return name, cosines[name]

    def mean_sources(self, task: str, variant: Variant) -> tuple[str, ...]:
        """Return the sources whose checkpoints the control ``mean`` averages for a task.

        A variant's own where generators are trained on checkpoints; elsewhere few sources have any, and they are the
        paper's six, but for the task.
        """
        if self.consolidation.preset.generator.reconstruction > 0:
            return variant.sources
        return tuple(source for source in IN_DOMAIN if source != task)

    # recipes ---------------------------------------------------------------------------------------------------------

    def generated(self, task: str, seed: int, variant: Variant, *, shuffle: bool = False) -> Recipe:
        """Return the recipe of a generated adapter; with ``shuffle`` from the same words in another order."""
        prompts = [example.prompt for example in self.support(task, seed)]
        prompts = shuffled(prompts, seed) if shuffle else prompts
        key = f"generated:{self._generator_sha256(variant)}:{_sha256(prompts)}"
        label = f"{variant.name} generated from {'shuffled ' if shuffle else ''}{task}, seed {seed}"
        return Recipe(key, partial(Workshop.generate, variant=variant, prompts=prompts), label)

    def aligned(self, task: str, seed: int, variant: Variant, *, towards: str | None = None) -> Recipe:
        """Return the recipe of an adapter generated from a task's prompts and aligned to them, or to another task's."""
        prompts = [example.prompt for example in self.support(task, seed)]
        style = self.consolidation.lm.profile.answer_style
        asked = asked_prompts(towards or task, self.support(towards or task, seed), style)
        files = [self._generator_sha256(variant), self._file_sha256(self._file(f"variants/{variant.name}/aligner"))]
        key = f"aligned:{':'.join(files)}:{_sha256([prompts, asked])}"
        label = f"{variant.name} generated from {task} and aligned to {towards or task}, seed {seed}"
        return Recipe(key, partial(Workshop.align, variant=variant, prompts=prompts, asked=asked), label)

    def at_centre(self, variant: Variant) -> Recipe:
        """Return the recipe of the adapter at a generator's centre."""
        key, label = f"centre:{self._generator_sha256(variant)}", f"{variant.name}'s centre"
        return Recipe(key, partial(Workshop.centre, variant=variant), label)

    def without(self, variant: Variant) -> Recipe:
        """Return the recipe of the adapter that is made without prompts."""
        key, label = f"unprompted:{self._generator_sha256(variant)}", f"{variant.name} without prompts"
        return Recipe(key, partial(Workshop.without_prompts, variant=variant), label)

    def averaged(self, variant: Variant, names: Sequence[str], label: str) -> Recipe:
        """Return the recipe of a mean of stored averages."""
        files = [self._file_sha256(self._file(f"{name}-average")) for name in names]
        return Recipe(
            f"average:{':'.join(files)}", partial(Workshop.average, variant=variant, names=tuple(names)), label
        )

    def between(self, *recipes: Recipe) -> Recipe:
        """Return the recipe of the adapter in the middle of some, halfway between two."""
        make = partial(Workshop.fused, recipes=recipes)
        label = " + ".join(recipe.label for recipe in recipes)
        return Recipe(":".join(["halfway", *(recipe.key for recipe in recipes)]), make, label)

    def _generator_sha256(self, variant: Variant) -> str:
        return self._file_sha256(self._file(f"variants/{variant.name}/generator"))


def fused(adapters: Sequence[LoraWeights]) -> LoraWeights:
    """Return the adapter whose ΔW is the mean of some adapters': their A and B side by side, of all ranks together."""
    first, n = adapters[0], len(adapters)
    assert all(each.modules() == first.modules() for each in adapters), "adapters of other modules"
    tensors = {}
    for module in first.modules():
        a, b = f"{module}.lora_A.weight", f"{module}.lora_B.weight"
        tensors[a] = torch.cat([each.tensors[a] for each in adapters])
        tensors[b] = torch.cat([each.tensors[b] * (each.alpha / each.rank / n) for each in adapters], 1)
    rank, made = sum(each.rank for each in adapters), {"made_by": f"mean of {n} adapters"}
    return LoraWeights(rank, rank, first.targets, tensors, first.base_sha256, made)


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
