"""Disjoint parts of a task: train, support, reward, test.

Two rules, both by a hash of the example's group (twins, scenes of one video, else the normalised question)
and never by the run's seed, so that what is trained on or steered by in one run is not tested in another:

- A built-in task is divided by fixed thresholds on the hash: .40 train, .10 support, .20 reward, .30 test.
  The task's name is not in the hash, so a question that two tasks share is in the same part of both.
- A task without a train part (a user's file, the small stand-ins) is dealt out in proportion to the requested
  sizes, so that any file with at least support + reward + test questions works; a fixed share would leave
  most small files too short in one part. Its parts depend on the ratio of the sizes, but not on the seed.

The seed only chooses inside a part. Where a file has fewer questions than the default sizes need, sizes that nobody
stated are cut to fit it, by ``fitting_sizes``. Questions without labels are all support.
"""

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cao.errors import InputError
from cao.files import sha256_bytes
from cao.tasks.base import Task
from cao.tasks.fitting import LEAST_FITTED, fitting_sizes
from cao.types import Example

Part = Literal["train", "support", "reward", "test"]
MeasuredPart = Literal["reward", "test"]
SHARES: dict[Part, float] = {"train": 0.40, "support": 0.10, "reward": 0.20, "test": 0.30}
DEFAULT_SIZES: dict[Part, int] = {"support": 32, "reward": 96, "test": 200}
LEAST: dict[Part, int] = {"support": 1, "reward": 2, "test": 2}
"""Questions of a run's part at least."""


Sizes = Mapping[Part, int]
"""Questions of each part."""


@dataclass(frozen=True)
class Splits:
    """The three sets of a run.

    Attributes:
        support: unlabelled to every tool.
        reward: steers the loop.
        test: read once, at the end.
        available: the most questions that the reward and the test part could have, the other parts staying as they are.
    """

    support: list[Example]
    reward: list[Example]
    test: list[Example]
    available: dict[Part, int] = field(default_factory=dict)

    @property
    def sizes(self) -> Mapping[str, int]:
        """Part → its number of questions."""
        return {"support": len(self.support), "reward": len(self.reward), "test": len(self.test)}


def _group(example: Example) -> str:
    return example.group or example.id


def position(group: str) -> float:
    """Return the place of a group in [0, 1), uniform and the same everywhere."""
    return int(sha256_bytes(group.encode())[:13], 16) / 16**13


def _by_threshold(examples: Iterable[Example]) -> dict[Part, list[Example]]:
    parts: dict[Part, list[Example]] = {name: [] for name in SHARES}
    for example in examples:
        place, upper = position(_group(example)), 0.0
        for name, share in SHARES.items():
            upper += share
            if place < upper or name == "test":
                parts[name].append(example)
                break
    return parts


def _by_demand(examples: Iterable[Example], sizes: Mapping[Part, int]) -> dict[Part, list[Example]]:
    """Deal whole groups out, large ones first, each to the part that has the least of what it needs.

    While a part still needs examples, one that needs none is never served; so with groups of one example
    each, every part gets its size as soon as there are enough examples for all.
    """
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[_group(example)].append(example)
    parts: dict[Part, list[Example]] = {name: [] for name in sizes}
    for name in sorted(groups, key=lambda group: (-len(groups[group]), position(group))):
        neediest = min(sizes, key=lambda part: len(parts[part]) / sizes[part])
        parts[neediest].extend(groups[name])
    return parts


def part(task: Task, name: Part) -> list[Example]:
    """Return one part of a task, in the source's order.

    A task without a train part is dealt out for the default sizes, or for those that fit it.

    Raises:
        InputError: the task has no such part.
        UnavailableError: its source is not at hand.
    """
    if name not in SHARES:
        raise InputError(f"no part is called {name!r}; there are {', '.join(SHARES)}")
    if task.has_train:
        return _by_threshold(task.load())[name]
    if name == "train":
        raise InputError(f"{task.name} sets nothing aside for training")
    examples = task.load()
    return _by_demand(examples, _fitted(examples, DEFAULT_SIZES, tuple(DEFAULT_SIZES)) or DEFAULT_SIZES)[name]


def training_examples(task: Task) -> list[Example]:
    """Return what a task gives to training: its train part, and all of a user's own file.

    Who learns on a file measures on another one.

    Raises:
        InputError: the task has no train part.
        UnavailableError: its source is not at hand.
    """
    return task.load() if task.reading else part(task, "train")


def split(task: Task, *, support: int, reward: int, test: int, seed: int, free: Collection[Part] = ()) -> Splits:
    """Return a run's examples: a seeded choice inside each part, without replacement.

    A larger size keeps the examples of a smaller one as long as the parts stay the same.

    Args:
        task: the task.
        support: examples for the tools, at least 1.
        reward: examples that steer the loop, at least 1.
        test: examples read once at the end, at least 1.
        seed: chooses inside the parts; it never moves an example to another part.
        free: sizes that may be cut where a task without a train part has too few questions.

    Raises:
        InputError: a size is below 1, or the task has fewer examples than asked for.
        UnavailableError: the task's source is not at hand.
    """
    sizes: Sizes = {"support": support, "reward": reward, "test": test}
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"--{name} must be at least 1, not {size}")
    examples = task.load()
    if not task.labelled:
        asked = choose(examples, support, f"{seed}:support")
        return Splits(asked, [], [], {"support": len(examples)})
    if free and not task.has_train:
        sizes = _fitted(examples, sizes, free) or sizes
    parts = _by_threshold(examples) if task.has_train else _by_demand(examples, sizes)
    _check(task, sizes, parts, examples, free)
    chosen = {name: choose(parts[name], size, f"{seed}:{name}") for name, size in sizes.items()}
    larger: tuple[Part, ...] = ("reward", "test")
    available = {name: _most(task, name, sizes, parts, examples) for name in larger}
    return Splits(chosen["support"], chosen["reward"], chosen["test"], available)


def practice(task: Task, *, support: int, reward: int, seed: int) -> Splits:
    """Return questions of the train part alone, for what is trained and shipped: support and reward, and no test.

    Args:
        task: a task with a train part, or a user's file with answers.
        support: examples for the tools, at least 1.
        reward: other examples, that strategies are judged by, at least 1.
        seed: chooses among the train part; whole groups go to one side.

    Raises:
        InputError: the task has no train part, too few questions in it, or no answers.
        UnavailableError: the task's source is not at hand.
    """
    if not task.labelled:
        raise InputError(f"{task.name} has no answers: strategies cannot be judged on it")
    examples = training_examples(task)
    groups = sorted({_group(example) for example in examples})
    random.Random(f"{seed}:practice").shuffle(groups)
    side = {group: "support" if position < len(groups) // 4 else "reward" for position, group in enumerate(groups)}
    chosen = {
        name: choose([example for example in examples if side[_group(example)] == name], size, f"{seed}:{name}")
        for name, size in (("support", support), ("reward", reward))
    }
    if len(chosen["support"]) < support or len(chosen["reward"]) < reward:
        raise InputError(f"{task.name} has {len(examples)} questions to train on: too few for {support} + {reward}")
    return Splits(chosen["support"], chosen["reward"], [])


def choose(examples: Iterable[Example], size: int, seed: str) -> list[Example]:
    """Return a seeded choice without replacement, all of them where there are fewer; a larger one keeps a smaller one.

    Args:
        examples: to choose from, in any order.
        size: how many at most.
        seed: ``SEED:PART`` gives the choice that a run of this seed makes.
    """
    ordered = sorted(examples, key=lambda example: example.id)
    random.Random(seed).shuffle(ordered)
    return ordered[:size]


def _fitted(examples: list[Example], sizes: Sizes, free: Collection[Part]) -> Sizes | None:
    """Return the largest fitting sizes that the questions can be dealt out for, None where there are none."""
    total = min(len(examples), sum(sizes.values()))
    while (fitted := fitting_sizes(total, sizes, free)) is not None:
        if _enough(_by_demand(examples, fitted), fitted):
            return fitted
        total = min(total - 1, int(0.97 * total))  # large groups leave gaps
    return None


def _check(
    task: Task,
    sizes: Sizes,
    parts: Mapping[Part, list[Example]],
    examples: list[Example],
    free: Collection[Part],
) -> None:
    """Raise InputError where a part has too few questions, with the sizes that would do."""
    if _enough(parts, sizes):
        return
    fitting = _fitting(task, sizes, parts, examples)
    give = " ".join(f"--{name} {size}" for name, size in fitting.items() if size != sizes[name])
    advice = f"give {give}" if give else f"a run needs {' + '.join(map(str, LEAST.values()))} at least"
    if not task.has_train and len(examples) < sum(sizes.values()):
        if free:
            least = {part: LEAST_FITTED[part] if part in free else size for part, size in sizes.items()}
            of = ", ".join(f"{size} {part}" for part, size in least.items())
            raise InputError(
                f"{task.name} has {len(examples)} different questions; {sum(least.values())} are needed at least "
                f"({of}), unless fewer are asked for: {advice}"
            )
        wanted = " + ".join(str(size) for size in sizes.values())
        raise InputError(
            f"{task.name} has {len(examples)} different questions, {wanted} = {sum(sizes.values())} are asked for; "
            f"{advice}"
        )
    sizes_had = ", ".join(f"{name} {len(parts[name])} (asked {sizes[name]})" for name in sizes)
    raise InputError(f"{task.name} has too few questions in a part: {sizes_had}; {advice}")


def _enough(parts: Mapping[Part, list[Example]], sizes: Sizes) -> bool:
    return all(len(parts[name]) >= size for name, size in sizes.items())


def _fitting(task: Task, sizes: Sizes, parts: Mapping[Part, list[Example]], examples: list[Example]) -> Sizes:
    """Return sizes like those asked for that the task has questions for, or nothing where it has not.

    A task with a train part gives what its parts hold; another one is divided as it was asked for.
    """
    if task.has_train:
        held = {name: min(size, len(parts[name])) for name, size in sizes.items()}
        return held if all(held[name] >= LEAST[name] for name in sizes) else {}
    total = min(len(examples), sum(sizes.values()))
    while total >= sum(LEAST.values()):
        share = total / sum(sizes.values())
        smaller = {name: max(LEAST[name], int(share * size)) for name, size in sizes.items()}
        smaller["test"] = max(LEAST["test"], total - smaller["support"] - smaller["reward"])
        if _enough(_by_demand(examples, smaller), smaller):
            return smaller
        total = min(total - 1, int(0.97 * total))  # large groups leave gaps
    return {}


def _most(task: Task, name: Part, sizes: Sizes, parts: Mapping[Part, list[Example]], examples: list[Example]) -> int:
    """Return how many questions a part could have if the others kept their sizes."""
    if task.has_train:
        return len(parts[name])
    most = len(examples) - sum(size for other, size in sizes.items() if other != name)
    while most > sizes[name]:
        larger = {**sizes, name: most}
        if _enough(_by_demand(examples, larger), larger):
            return most
        most = int(0.97 * most)  # large groups leave gaps
    return sizes[name]
