"""Scored cells: one adapter's answers to one task's questions, each kept in a file as soon as it is there.

A cell costs minutes on a CPU, so a report that was killed goes on with what is scored. A cell is known by the
adapter's hash, the task, the part and the number of questions; what it holds must answer the very questions asked.
Which adapter a recipe makes is kept too, so that a scored one need not be made again. Cells do not need each other:
workers score them, each with a model of its own, and write them into the same folder.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from agent.train.engine.work import Run
from agent.train.files import read_json
from cao.errors import InputError, NotApplicableError
from cao.files import sha256_bytes, write_json
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.model.language_model import LanguageModel
from cao.progress import Progress, silent
from cao.tasks import TASKS
from cao.types import AdaptedModel, Example, Item
from eval.generation.recipes import BASE, Recipe
from tools.evaluate import evaluate, load_items, save_items


@dataclass(frozen=True)
class Job:
    """One adapter and the tasks that it is scored on.

    Attributes:
        recipe: how the adapter is made.
        tasks: what it answers; it is put on once for all of them.
    """

    recipe: Recipe
    tasks: tuple[str, ...]


@dataclass
class Cells:
    """The scored cells of a folder.

    Attributes:
        folder: where they lie.
        lm: the base model, undressed.
        questions: task → its questions.
        make: makes a recipe's adapter, None for the base model.
        progress: called as cells are scored.
    """

    folder: Path
    lm: LanguageModel
    questions: dict[str, list[Example]]
    make: Callable[[Recipe], LoraWeights | None]
    progress: Progress = silent

    def __post_init__(self) -> None:
        path = self.folder / "adapters.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.known: dict[str, str] = {BASE: BASE, **(read_json(path, dict[str, str]) if path.exists() else {})}

    def read(self, recipe: Recipe, task: str) -> list[Item] | None:
        """Return a scored cell, None where it is not scored, damaged, or about other questions."""
        sha256 = self.known.get(_short(recipe.key))
        return None if sha256 is None else self._stored(sha256, task)

    def _stored(self, sha256: str, task: str) -> list[Item] | None:
        if not self._path(sha256, task).exists():
            return None
        try:
            items = load_items(self._path(sha256, task))
        except InputError:
            return None
        asked = [(example.id, example.answer) for example in self.questions[task]]
        return items if [(item.id, item.gold) for item in items] == asked else None

    def hash_of(self, recipe: Recipe) -> str:
        """Return the hash of the adapter that a scored recipe makes."""
        return self.known[_short(recipe.key)]

    def missing(self, wanted: Sequence[tuple[Recipe, str]]) -> dict[Recipe, list[str]]:
        """Return what is not scored yet, each recipe with its tasks: an adapter is put on once for all of them."""
        missing: dict[Recipe, list[str]] = {}
        for recipe, task in wanted:
            if self.read(recipe, task) is None and task not in missing.get(recipe, ()):
                missing.setdefault(recipe, []).append(task)
        return missing

    def score(self, missing: dict[Recipe, list[str]], run: Run[Job, str] | None = None) -> None:
        """Score the cells that ``missing`` returns.

        Args:
            missing: each recipe with its tasks.
            run: does jobs, with ``do``; None does them in this process.

        Raises:
            InputError: a model's output is not finite, or questions have no choices.
        """
        done, total = 0, sum(map(len, missing.values()))
        for job, sha256 in (run or self._run)(jobs_of(missing)):
            self._learn(job.recipe, sha256)
            done += len(job.tasks)
            self.progress("cells", done, total)

    def _run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
        for job in jobs:
            yield job, self.do(job)

    def do(self, job: Job) -> str:
        """Make a job's adapter, write down its answers to each task, and return the adapter's hash."""
        weights = self.make(job.recipe)
        sha256 = BASE if weights is None else adapter_sha256(weights)
        with self.lm.adapted(weights):
            for task in job.tasks:
                if self._stored(sha256, task) is None:  # another recipe may have made the same adapter
                    path = self._path(sha256, task)
                    path.parent.mkdir(exist_ok=True)
                    save_items(path, self._answers(job.recipe, task))
        return sha256

    def _answers(self, recipe: Recipe, task: str) -> list[Item]:
        """Answer with the model as it is dressed: ``evaluate`` would dress it again for every task."""
        try:
            return evaluate(TASKS[task], self.questions[task], AdaptedModel(), "likelihood", lm=self.lm)
        except NotApplicableError as error:
            raise InputError(f"{recipe.label} on {task}: {error}") from None

    def _learn(self, recipe: Recipe, sha256: str) -> None:
        if self.known.get(_short(recipe.key)) != sha256:
            self.known[_short(recipe.key)] = sha256
            write_json(self.folder / "adapters.json", self.known)

    def _path(self, sha256: str, task: str) -> Path:
        return self.folder / task / f"{sha256[:16]}.jsonl"


def jobs_of(missing: dict[Recipe, list[str]]) -> list[Job]:
    """Return independent jobs: one for each adapter, and one for each task of the base model, which needs none."""
    jobs = []
    for recipe, tasks in missing.items():
        jobs += [Job(recipe, (task,)) for task in tasks] if recipe.make is None else [Job(recipe, tuple(tasks))]
    return jobs


def _short(key: str) -> str:
    return key if key == BASE else sha256_bytes(key.encode())[:32]


def cells_folder(consolidation: Path, device: str, dtype: str, split: str, limit: int) -> Path:
    """Return where the cells of one kind lie: other devices and dtypes round differently."""
    return consolidation / "scores" / f"{torch.device(device).type}-{dtype}" / f"{split}-{limit}"
