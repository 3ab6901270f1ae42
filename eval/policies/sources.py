"""The policies that the table judges: those of finished trainings or, without any, what ships."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from agent.config import RunConfig
from agent.train.files import read_json
from agent.train.policy.rollouts import Plan
from agent.train.policy.settings import Settings, read_settings
from cao.errors import InputError, UnavailableError
from cao.machine.compute import settled
from cao.model.adapters import LoraWeights, load_adapter
from cao.model.language_model import LanguageModel
from cao.model.loading import check_device
from cao.tasks import get_task
from eval.options import TablesOptions
from eval.policies.ground import plan_of, wanted_of
from eval.policies.results import TrainingReport
from policies.selection.learnt import SELECTION, Selection, read_selection, selection_file
from policies.trained import find_policy, index_of, practised_on

FOLDER = Path("runs/policies")
"""Where the page of what ships is written, if nothing else is said."""

Arms = Mapping[str, tuple[int, int]]
"""Strategy → (situations improved, situations not improved), of the grid's points in practice."""


@dataclass(frozen=True)
class Learnt:
    """What is judged, for one base model.

    Attributes:
        adapters: row of the table → the policy's adapter.
        practised: tasks that any of it was trained on.
        selection: the portfolio and the surrogate, None where none were learnt.
        arms: what the bandit knows.
    """

    adapters: dict[str, LoraWeights]
    practised: frozenset[str]
    selection: Selection | None
    arms: Arms = field(default_factory=dict)


@dataclass(frozen=True)
class Source(ABC):
    """Where policies come from, and where they are judged.

    Attributes:
        plan: the situations.
        texts: file of what language models wrote.
        reports: of the trainings, by their folders' names.
    """

    plan: Plan
    texts: Path
    reports: dict[str, TrainingReport]

    @abstractmethod
    def learnt(self, lm: LanguageModel) -> Learnt:
        """Return what is judged; UnavailableError or InputError where it is of another base model or damaged."""


def source_of(options: TablesOptions) -> Source:
    """Return what the options name.

    Raises:
        InputError: a folder that cannot be used, or trainings that differ.
        UnavailableError: a training is not finished.
    """
    return _trainings(options) if options.training else _what_ships(options)


class WhatShips(Source):
    """The trained parts that runs use: the policy of a base model, and what was learnt to choose without one."""

    def learnt(self, lm: LanguageModel) -> Learnt:
        """Return the policy that ships for the model, and its selection; either may not be there."""
        index = index_of(self.plan.config.pretrained)
        adapter, path = find_policy(lm.sha256, index), selection_file(lm.profile.name, self.plan.config.pretrained)
        try:
            selection = read_selection(path, lm.sha256)
        except UnavailableError:  # there is none, or other weights of this name have one
            selection = None
        practised = {*practised_on(lm.sha256, index), *_tasks(selection)}
        return Learnt({"shipped": adapter} if adapter else {}, frozenset(practised), selection)


def _what_ships(options: TablesOptions) -> Source:
    return WhatShips(plan := plan_of(options), plan.folder / "texts.jsonl", {})


def _tasks(selection: Selection | None) -> tuple[str, ...]:
    tasks = selection.made.get("tasks") if selection else None
    return tuple(map(str, tasks)) if isinstance(tasks, list) else ()


@dataclass(frozen=True)
class Finished:
    """A finished training.

    Attributes:
        folder: its own.
        settings: what it was for.
        report: its settings, its samples and its costs.
        arms: what its landscape came to.
        policies: row of the table → folder of the adapter.
    """

    folder: Path
    settings: Settings
    report: TrainingReport
    arms: Arms
    policies: dict[str, Path]


@dataclass(frozen=True)
class Trainings(Source):
    """Finished trainings of one kind of run."""

    finished: tuple[Finished, ...]

    def learnt(self, lm: LanguageModel) -> Learnt:
        """Return the policies of every training; the shipped one where none trained a language model."""
        rows = {name: folder for training in self.finished for name, folder in training.policies.items()}
        adapters = {name: load_adapter(folder, lm.sha256) for name, folder in rows.items()}
        practised = {get_task(task).name for training in self.finished for task in training.settings.tasks}
        if not adapters and (shipped := find_policy(lm.sha256, index := index_of(self.plan.config.pretrained))):
            adapters["shipped"], practised = shipped, {*practised, *practised_on(lm.sha256, index)}
        path = self.finished[-1].folder / SELECTION
        selection = read_selection(path, lm.sha256) if path.exists() else None
        arms = max((training.arms for training in self.finished), key=lambda arms: sum(map(sum, arms.values())))
        return Learnt(adapters, frozenset(practised), selection, arms)


def _trainings(options: TablesOptions) -> Source:
    check_device(options.device)
    finished = tuple(map(_finished, options.training))
    first = finished[0].settings
    tasks = options.tasks or tuple(dict.fromkeys((*first.held_out, *first.tasks)))
    plan = Plan(first.situations_folder, _config(finished, options), wanted_of(options, tasks))
    reports = {training.folder.name: training.report for training in finished}
    return Trainings(plan, options.training[0] / "texts.jsonl", reports, finished)


def _finished(folder: Path) -> Finished:
    settings, path = read_settings(folder), folder / "report.json"
    report = read_json(path, dict[str, object]) if path.exists() else {}
    reported = report.get("iterations")
    if not isinstance(reported, list) or len(reported) != settings.iterations + 1:
        raise UnavailableError(f"{folder} is not finished (report.json does not tell it all); give its command again")
    warm = "warm " if settings.warm_start else ""
    policies = {f"{warm}ReST-EM {n}": folder / f"policy-{n}" for n in range(1, settings.iterations + 1)}
    if warm:
        policies = {"taught by the grid": folder / "policy-0", **policies}
    try:
        arms = TypeAdapter(dict[str, tuple[int, int]]).validate_python(report["arms"])
        read = TrainingReport.model_validate({key: report[key] for key in ("settings", "iterations", "costs")})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not a training's report ({type(error).__name__})") from None
    return Finished(folder, settings, read, arms, policies)


def _config(trainings: tuple[Finished, ...], options: TablesOptions) -> RunConfig:
    config = trainings[0].settings.config
    if any(training.settings.config != config for training in trainings):
        raise InputError("these trainings are of runs that differ (see their config.json); give one of them at a time")
    if len({name for training in trainings for name in training.policies}) < sum(len(t.policies) for t in trainings):
        raise InputError("two trainings of one kind would have the same rows; give one of them at a time")
    if options.reward not in (config.reward, TablesOptions.model_fields["reward"].default):
        raise InputError(f"these trainings are of {config.reward} reward questions; leave out --reward")
    if config.model_path and not options.model_path:
        own = "was made with a model folder of your own; give it with --set model_path=DIR"
        raise InputError(f"{options.training[0]} {own}")
    begun = read_json(trainings[0].folder / "config.json", dict[str, object]).get("dtype")
    return config.model_copy(
        update={
            "test": options.limit,
            "device": options.device,
            "offline": options.offline,
            "dtype": settled(options.dtype, options.device, begun),
            "model_path": options.model_path,
        }
    )
