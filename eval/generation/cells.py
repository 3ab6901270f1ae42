"""Scored cells: one adapter's answers to one sheet of questions, each kept in a file as soon as it is there.

A cell costs minutes on a CPU, so a report that was killed goes on with what is scored. A cell is known by the
adapter's hash and its sheet; what it holds must answer the very questions asked, with what was measured of each
choice, so that every answer rule follows from it. What an adapter thinks of the choices without their question, which
some rules take off, lies beside it. Which adapter a recipe makes is kept too, so that a scored one need not be made
again. Cells do not need each other: workers score them, each with a model of its own, and write them into one folder.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from pydantic import Field, TypeAdapter

from agent.train.engine.work import Run
from agent.train.files import read_json
from cao.errors import InputError, NotApplicableError
from cao.files import canonical_json, opened, sealed, sha256_bytes, write_json
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.model.language_model import LanguageModel
from cao.model.profiles import settings_of
from cao.progress import Progress, silent
from cao.types import AdaptedModel, Item
from eval.generation.sheets import Sheet, questions, task_of
from eval.generation.workshop import BASE, Recipe
from tools.evaluate import evaluate, load_items, save_items
from tools.evaluate.answer_rule import Prior
from tools.evaluate.priors import choice_prior, scored_texts

_PRIOR: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, Annotated[float, Field(allow_inf_nan=False)]])


class Ask(NamedTuple):
    """What an adapter is asked.

    Attributes:
        sheet: the questions.
        prior: whether the choices are scored behind an empty question, too.
    """

    sheet: Sheet
    prior: bool = False


@dataclass(frozen=True)
class Job:
    """One adapter and what it is asked.

    Attributes:
        recipe: how the adapter is made.
        asks: it is put on once for all of them.
    """

    recipe: Recipe
    asks: tuple[Ask, ...]


@dataclass
class Cells:
    """The scored cells of a folder.

    Attributes:
        folder: where they lie.
        lm: the base model, undressed.
        make: makes a recipe's adapter, None for the base model.
        progress: called as cells are scored.
    """

    folder: Path
    lm: LanguageModel
    make: Callable[[Recipe], LoraWeights | None]
    progress: Progress = silent

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.known: dict[str, str] = {BASE: BASE}
        path = self.folder / "adapters.json"
        self.known |= read_json(path, dict[str, str]) if path.exists() else {}

    # reading ---------------------------------------------------------------------------------------------------------

    def read(self, recipe: Recipe, sheet: Sheet) -> list[Item] | None:
        """Return a scored cell, None where it is not scored, damaged, or about other questions."""
        sha256 = self.known.get(_short(recipe.key))
        return None if sha256 is None else self._items(sha256, sheet)

    def prior(self, recipe: Recipe, sheet: Sheet) -> Prior | None:
        """Return log p₀ of the choices' texts, None where it is not scored or damaged."""
        sha256 = self.known.get(_short(recipe.key))
        return None if sha256 is None else self._prior(sha256, sheet)

    def _items(self, sha256: str, sheet: Sheet) -> list[Item] | None:
        path = self._path(sha256, sheet)
        if not path.exists():
            return None
        try:
            items = load_items(path)
        except InputError:
            return None
        asked = [(example.id, example.answer) for example in questions(sheet)]
        whole = all(item.choices for item in items)  # an older file has the scores of one answer rule alone
        return items if whole and [(item.id, item.gold) for item in items] == asked else None

    def _prior(self, sha256: str, sheet: Sheet) -> Prior | None:
        try:
            kept = _PRIOR.validate_json(opened(self._prior_path(sha256, sheet).read_bytes()))
        except (OSError, ValueError):
            return None
        task, style = task_of(sheet.task), self.lm.profile.answer_style
        texts = {text for example in questions(sheet) for text in scored_texts(task, example, style)}
        return kept if kept.keys() == texts else None

    def hash_of(self, recipe: Recipe) -> str:
        """Return the hash of the adapter that a scored recipe makes."""
        return self.known[_short(recipe.key)]

    # scoring ---------------------------------------------------------------------------------------------------------

    def missing(self, wanted: Iterable[tuple[Recipe, Ask]]) -> dict[Recipe, list[Ask]]:
        """Return what is not scored yet, each recipe with what it is asked."""
        missing: dict[Recipe, list[Ask]] = {}
        for recipe, ask in dict.fromkeys(wanted):
            done = self.read(recipe, ask.sheet) is not None
            if not done or (ask.prior and self.prior(recipe, ask.sheet) is None):
                missing.setdefault(recipe, []).append(ask)
        return missing

    def score(self, missing: dict[Recipe, list[Ask]], run: Run[Job, str] | None = None) -> None:
        """Score the cells that ``missing`` returns.

        Args:
            missing: each recipe with what it is asked.
            run: does jobs, with ``do``; None does them in this process.

        Raises:
            InputError: a model's output is not finite, or questions have no choices.
        """
        done, total = 0, sum(map(len, missing.values()))
        for job, sha256 in (run or self._run)(jobs_of(missing)):
            self._learn(job.recipe, sha256)
            done += len(job.asks)
            self.progress("cells", done, total)

    def _run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
        for job in jobs:
            yield job, self.do(job)

    def do(self, job: Job) -> str:
        """Make a job's adapter, write down its answers to each sheet, and return the adapter's hash."""
        weights = self.make(job.recipe)
        sha256 = BASE if weights is None else adapter_sha256(weights)
        with self.lm.adapted(weights):
            for sheet, prior in job.asks:
                try:
                    self._answer(sha256, sheet, prior=prior)
                except NotApplicableError as error:
                    raise InputError(f"{job.recipe.label} on {sheet.task}: {error}") from None
        return sha256

    def _answer(self, sha256: str, sheet: Sheet, *, prior: bool) -> None:
        """Answer with the model as it is dressed; another recipe may have made the same adapter, and answered."""
        task, path = task_of(sheet.task), self._path(sha256, sheet)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._items(sha256, sheet) is None:
            save_items(path, evaluate(task, questions(sheet), AdaptedModel(), "likelihood", lm=self.lm))
        if prior and self._prior(sha256, sheet) is None:
            write_json(self._prior_path(sha256, sheet), sealed(choice_prior(task, questions(sheet), self.lm)))

    def _learn(self, recipe: Recipe, sha256: str) -> None:
        if self.known.get(_short(recipe.key)) != sha256:
            self.known[_short(recipe.key)] = sha256
            write_json(self.folder / "adapters.json", sealed(self.known))

    def _path(self, sha256: str, sheet: Sheet) -> Path:
        return self.folder / sheet.folder / sheet.task / f"{sha256[:16]}.jsonl"

    def _prior_path(self, sha256: str, sheet: Sheet) -> Path:
        return self._path(sha256, sheet).with_suffix(".prior.json")


def jobs_of(missing: dict[Recipe, list[Ask]]) -> list[Job]:
    """Return independent jobs: one for each adapter, and one for each sheet of the base model, which needs none."""
    jobs = []
    for recipe, asks in missing.items():
        jobs += [Job(recipe, (ask,)) for ask in asks] if recipe.make is None else [Job(recipe, tuple(asks))]
    return jobs


def _short(key: str) -> str:
    return key if key == BASE else sha256_bytes(key.encode())[:32]


def cells_folder(consolidation: Path, device: str, lm: LanguageModel) -> Path:
    """Return where the cells of one model lie, as it is asked; other devices and dtypes round differently."""
    about = sha256_bytes(canonical_json([lm.sha256, settings_of(lm.profile)]).encode())[:12]
    return consolidation / "scores" / f"{torch.device(device).type}-{lm.dtype}-{about}"
