"""What is compared on a task: the generated and the aligned adapter, and the controls that they have to beat.

A folder that lacks what a control is made of has no such row, and the page says why.

Source: CAO-LLM §2.2, §2.3; the controls are this project's.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle

from agent.train.generator.presets import REPORTED
from agent.train.generator.variants import Variant, variants
from cao.errors import InputError
from cao.progress import Progress
from cao.tasks.same_problems import saw
from eval.generation.consolidation import serving
from eval.generation.pooled import POOL, POOL_KINDS
from eval.generation.workshop import BASE, Recipe, Workshop
from tools.detect_drift.reference import IN_DOMAIN

PAPER = "paper"
"""The variant that is trained on the six in-domain tasks alone."""

KINDS = {
    "base": "the base model",
    "generated": "made from 32 support prompts by the generator that never saw the task",
    "aligned": "the same after alignment to those prompts",
    "fused": "the mean of the ΔW of what every generator makes that never saw the task, where there are several",
    "misaligned": "the same after alignment to another task's prompts",
    "no prompts": "what that generator makes with its prompts masked out",
    "centre": "the adapter that is trained at the centre of what that generator makes, without what it generates",
    "union": "Union-Train: one adapter trained on all sources of that generator, whatever the task",
    "mean": "mean of checkpoints, A and B separately: of the generator's sources, or of the six in domain but this",
    "nearest": "checkpoint of the source whose prompts are nearest by embedding",
    "generated+nearest": "halfway between these two: the mean of their ΔW",
    **POOL_KINDS,
    "wrong": "generated from another task's prompts",
    "shuffled": "generated from the same prompts with all their words in another order",
    "checkpoint": "trained on the task itself",
    "generated+checkpoint": "halfway between generated and that: what an aligner towards checkpoints is to do",
    "own": "trained on the task itself the way Union-Train is on all sources",
    "seen": "made by the generator that was trained on the task too",
    "paper": "made by the generator of the six in-domain tasks alone, for tasks that it never saw",
}
"""Kind of adapter → what it is."""

RETENTION = "retention"
"""Beside the kinds: what adapters cost where they were not made for."""

ALWAYS = ("base", "generated")
NEAREST = {"nearest", "generated+nearest"}
CHECKPOINT = {"checkpoint", "generated+checkpoint"}
NOT_WANTED = "it was not asked for"


def wanted_kinds(methods: Sequence[str] | None) -> tuple[str, ...]:
    """Return what is compared: the kinds that are named beside the base model and what is generated, and retention.

    Args:
        methods: kinds, and ``RETENTION``; None for all.

    Raises:
        InputError: nothing has such a name.
    """
    known = (*KINDS, RETENTION)
    unknown = [name for name in methods or () if name not in known]
    if unknown:
        raise InputError(f"--methods: no row is called {unknown[0]!r}; known: {', '.join(known)}")
    pool = POOL if {*(methods or ())} & POOL_KINDS.keys() else ()
    return tuple(name for name in known if methods is None or name in (*ALWAYS, *methods, *pool))


@dataclass(frozen=True)
class Compared:
    """What is compared on a task.

    Attributes:
        recipes: kind → a recipe for each seed, or a single one.
        missing: kind → why the folder cannot make it, a clause.
    """

    recipes: dict[str, list[Recipe]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, recipes: Sequence[Recipe], reason: str = "") -> None:
        """Add a kind of adapter, or why there is none."""
        if reason:
            self.missing[kind] = reason
        else:
            self.recipes[kind] = list(recipes)


def in_domain(workshop: Workshop, task: str) -> bool:
    """Return whether a task is one of the paper's six, or a source: there is a checkpoint of it."""
    return task in IN_DOMAIN or task in workshop.full.sources


def only(task: str) -> Variant:
    """Return the variant whose one source is a task: its Union-Train is trained on the task itself."""
    return Variant(f"only-{task}", (task,))


def train_lacking(
    workshop: Workshop, tasks: Sequence[str], seeds: Sequence[int], kinds: Collection[str], progress: Progress
) -> None:
    """Train what the comparison takes and the folder lacks: Union-Train, and the checkpoints of sources and tasks.

    Args:
        workshop: makes adapters.
        tasks: what is measured on.
        seeds: choices of support prompts.
        kinds: of adapters that are compared.
        progress: called after each.

    Raises:
        InputError: a training diverged, or a task has no questions to train on.
    """
    consolidation, wanted = workshop.consolidation, dict[str, Callable[[], object]]()
    for task in tasks:
        variant = serving(consolidation, task)
        if "union" in kinds:
            wanted[f"unions/{variant.name}"] = partial(consolidation.union, variant)
        names = [workshop.nearest(task, variant, seed)[0] for seed in seeds] if NEAREST & {*kinds} else []
        names += workshop.mean_sources(task, variant) if "mean" in kinds else ()
        if in_domain(workshop, task):
            names += [task] if CHECKPOINT & {*kinds} else []
            if "own" in kinds:
                wanted[f"unions/{only(task).name}"] = partial(consolidation.union, only(task))
        wanted |= {f"checkpoints/{name}": partial(consolidation.checkpoints, name) for name in names}
    lacking = {name: train for name, train in wanted.items() if not workshop.has(f"{name}-average")}
    for done, (name, train) in enumerate(lacking.items(), 1):
        progress(f"training {name}", done - 1, len(lacking))
        train()


def compared(workshop: Workshop, task: str, seeds: Sequence[int], kinds: Collection[str]) -> Compared:
    """Return what is compared on a task, after ``train_lacking``.

    ``wrong`` takes another task's prompts for each seed. ``CHECKPOINT`` and ``own`` are there for in-domain tasks,
    ``seen``, the generator that was trained on the task, for sources, and ``paper`` for tasks that its generator never
    saw.

    Args:
        workshop: makes adapters.
        task: a known task.
        seeds: choices of support prompts.
        kinds: what is wanted of ``KINDS``.
    """
    variant, every = serving(workshop.consolidation, task), Compared()
    every.add("base", [Recipe(BASE, None, "the base model")])
    every.add("generated", [workshop.generated(task, seed, variant) for seed in seeds])
    foreign = list(zip(seeds, others(task, len(seeds)), strict=True))
    if workshop.has(f"variants/{variant.name}/aligner"):
        every.add("aligned", [workshop.aligned(task, seed, variant) for seed in seeds])
        every.add("misaligned", [workshop.aligned(task, seed, variant, towards=other) for seed, other in foreign])
    else:
        every.missing.update(dict.fromkeys(("aligned", "misaligned"), f"`{variant.name}` has no aligner"))
    _add_fusion(every, workshop, task, variant, seeds)
    every.add("no prompts", [workshop.without(variant)])
    if workshop.consolidation.preset.statistics == "element":
        every.add("centre", [workshop.at_centre(variant)])
    else:
        every.add("centre", [], f"`{variant.name}` normalises layer by layer and has no such adapter")
    _add_union(every, workshop, variant)
    if "mean" in kinds:
        sources = [f"checkpoints/{source}" for source in workshop.mean_sources(task, variant)]
        every.add("mean", [workshop.averaged(variant, sources, f"mean of {len(sources)} checkpoints")])
    if NEAREST & {*kinds}:
        nearest = [workshop.nearest(task, variant, seed)[0] for seed in seeds]
        _add_halfway(every, workshop, "nearest", [_checkpoint(workshop, variant, name) for name in nearest])
    every.add("wrong", [workshop.generated(other, seed, variant) for seed, other in foreign])
    every.add("shuffled", [workshop.generated(task, seed, variant, shuffle=True) for seed in seeds])
    if in_domain(workshop, task):
        _add_own(every, workshop, task, variant, kinds)
    if saw(task, workshop.full.sources):
        every.add("seen", [workshop.generated(task, seed, workshop.full) for seed in seeds])
    _add_paper(every, workshop, task, seeds)
    if lacking := [kind for kind in POOL if kind not in every.recipes]:
        every.missing.update(dict.fromkeys(POOL_KINDS, f"there is no {lacking[0]} to choose from"))
    found = Compared(
        {kind: recipes for kind, recipes in every.recipes.items() if kind in kinds},
        {kind: reason for kind, reason in every.missing.items() if kind in kinds},
    )
    found.missing.update({kind: NOT_WANTED for kind in KINDS if kind not in kinds})
    return found


def _add_fusion(found: Compared, workshop: Workshop, task: str, variant: Variant, seeds: Sequence[int]) -> None:
    """Add the mean of what all generators make that never saw a task, the one that serves it among them."""
    every = [each for each in variants(workshop.consolidation.preset) if not saw(task, each.sources)]
    others = [each for each in every if each != variant and workshop.has(f"variants/{each.name}/generator")]
    if others:
        made = [[workshop.generated(task, seed, each) for seed in seeds] for each in others]
        found.add("fused", [workshop.between(*same) for same in zip(found.recipes["generated"], *made, strict=True)])


def _add_halfway(found: Compared, workshop: Workshop, kind: str, recipes: Sequence[Recipe]) -> None:
    """Add adapters, one for each seed or one for all, and what lies halfway between the generated ones and them."""
    found.add(kind, recipes)
    halves = zip(found.recipes["generated"], cycle(recipes), strict=False)
    found.add(f"generated+{kind}", [workshop.between(*pair) for pair in halves])


def _add_own(found: Compared, workshop: Workshop, task: str, variant: Variant, kinds: Collection[str]) -> None:
    """Add what is trained on the task itself."""
    if CHECKPOINT & {*kinds}:
        _add_halfway(found, workshop, "checkpoint", [_checkpoint(workshop, variant, task)])
    if "own" in kinds:
        found.add("own", [workshop.averaged(variant, [f"unions/{only(task).name}"], f"trained on {task}")])


def _add_union(found: Compared, workshop: Workshop, variant: Variant) -> None:
    """Add the adapter that is made of a variant's sources alone."""
    union = f"unions/{variant.name}"
    if workshop.has(f"{union}-average"):
        found.add("union", [workshop.averaged(variant, [union], f"Union-Train {variant.name}")])
    else:
        found.add("union", [], f"no adapter was trained on all sources of `{variant.name}`")


def paper_variant(workshop: Workshop) -> Variant | None:
    """Return the variant of the six in-domain tasks alone, None where the folder has no such generator."""
    listed = (each for each in variants(workshop.consolidation.preset) if each.name == PAPER)
    return next((each for each in listed if workshop.has(f"variants/{each.name}/generator")), None)


def _add_paper(found: Compared, workshop: Workshop, task: str, seeds: Sequence[int]) -> None:
    """Add what the generator of the paper's six sources makes, where it never saw the task."""
    paper = paper_variant(workshop)
    if paper is None:
        found.add(PAPER, [], "no generator was trained on the six in-domain tasks alone")
    elif task not in paper.sources:
        found.add(PAPER, [workshop.generated(task, seed, paper) for seed in seeds])


def _checkpoint(workshop: Workshop, variant: Variant, task: str) -> Recipe:
    return workshop.averaged(variant, [f"checkpoints/{task}"], f"checkpoint of {task}")


def others(task: str, count: int) -> list[str]:
    """Return other reported tasks, ``count`` of them and all different, spread over the list."""
    rest = [name for name in REPORTED if name != task]
    assert count <= len(rest), (task, count)
    first = (REPORTED.index(task) if task in REPORTED else 0) + len(rest) // (2 * count)  # not the list's next, its kin
    return [rest[(first + i * len(rest) // count) % len(rest)] for i in range(count)]
