"""What a worker of a table works with: the models, loaded once, and a workbench for each task and seed.

All rows of a task answer the same reward and test questions, those of seed 0; the support prompts are the seed's own.
"""

from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from agent.config import RunConfig, make_config
from agent.loop.request import protocol_of
from agent.loop.state import Workbench
from agent.loop.trained import find_trained
from agent.train.generator.own import fingerprint
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.progress import Progress
from cao.tasks import get_task
from cao.tasks.base import Task
from cao.tasks.splits import Part, Splits, choose, part
from cao.types import AcceptRule, Example
from eval.baselines.baseline import Budget
from eval.baselines.ground import Ground, ground_of
from eval.generation.consolidation import serving
from eval.generation.sheets import PROMPTS, Sheet, questions
from eval.generation.workshop import Workshop
from eval.options import TablesOptions
from eval.paper.cells.sources import open_workshop, trained_parts
from eval.paper.making import equal_budget
from eval.paper.sizes import allowed
from policies.base import Policy
from policies.registry import build_policy
from tools.evaluate import HiddenCache


@cache
def _elsewhere(task: str) -> frozenset[str]:
    """Return the letters and digits of the questions of every part of a task but its test part."""
    found = get_task(task)
    parts: tuple[Part, ...] = ("train", "support", "reward") if found.has_train else ("support", "reward")
    return frozenset(fingerprint(example) for name in parts for example in part(found, name))


@dataclass(frozen=True)
class Shared:
    """What all cells of a table share; it travels to the workers.

    Attributes:
        options: of the command, their sizes and dtype settled.
        work: where everything that is made and answered is kept.
        command: as it was given, for the reasons of absent cells.
    """

    options: TablesOptions
    work: Path
    command: str = ""

    def measured(self, task: str) -> tuple[list[Example], list[Example]]:
        """Return a task's reward and test questions, the same for every row and seed.

        A test question whose text another part has too, with other choices say, is left out.

        Raises:
            InputError: no such task, or no questions with choices where choices are to be ranked.
            UnavailableError: its source is not at hand.
        """
        options, known = self.options, _elsewhere(task)
        test = [e for e in questions(Sheet(task, "test", options.limit)) if fingerprint(e) not in known]
        return questions(Sheet(task, "reward", options.reward)), test

    def config(self, task: str, seed: int, accept: AcceptRule | None = None) -> RunConfig:
        """Return the configuration of the run that a task and a seed stand for, by a rule of acceptance."""
        options = self.options
        asked = {
            "task": task,
            "seed": seed,
            "model": options.model,
            "model_path": options.model_path,
            "profile": options.profile,
            "pretrained": trained_parts(options),
            "policy": options.policy,
            "policy_settings": options.policy_settings.model_dump(exclude_defaults=True),
            "protocol": options.protocol,
            "accept": accept,
            "support": PROMPTS,
            "reward": options.reward,
            "test": options.limit,
            "device": options.device,
            "dtype": options.dtype,
            "offline": options.offline,
        }
        return make_config(None, {key: value for key, value in asked.items() if value is not None}, [])


@dataclass
class Desk:
    """Everything that is loaded, once in a process.

    Attributes:
        shared: what all cells share.
        progress: called during long work.
    """

    shared: Shared
    progress: Progress
    states: HiddenCache = field(default_factory=HiddenCache, repr=False)
    _grounds: dict[str, Ground] = field(default_factory=dict, init=False, repr=False)
    _budgets: dict[str, Budget] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def lm(self) -> LanguageModel:
        """The base model, undressed."""
        return load_model(self.shared.options)

    @cached_property
    def encoder(self) -> Encoder:
        """The frozen encoder."""
        return Encoder(minilm_folder(), self.lm.device)

    @cached_property
    def workshop(self) -> Workshop:
        """The source tasks, for baselines."""
        shared = self.shared
        return open_workshop(shared.options, shared.work, self.lm, lambda: self.encoder, self.progress)

    def ground(self, task: str) -> Ground:
        """Return what baselines of a task work with; tasks that one generator serves share it.

        Raises:
            InputError: every generator was trained on the task.
            UnavailableError: nobody knows sources for this model.
        """
        name = serving(self.workshop.consolidation, task).name
        if name not in self._grounds:
            self._grounds[name] = ground_of(self.workshop, task, self.progress)
        return self._grounds[name]

    def whole_budget(self, task: str) -> Budget:
        """Return what the generator that serves a task took, and ten steps; raises as ``ground`` does."""
        ground = self.ground(task)
        if ground.variant.name not in self._budgets:
            self._budgets[ground.variant.name] = equal_budget(ground)
        return self._budgets[ground.variant.name]

    def budget(self, task: str) -> Budget | None:
        """Return what a baseline may spend on a task; None where its paper's settings say so."""
        options = self.shared.options
        return allowed(options.preset, self.whole_budget(task)) if options.rules == "equal" else None

    @cached_property
    def policy(self) -> Policy:
        """Who proposes strategies, as a run has it."""
        options, config = self.shared.options, self.shared.config("arc_easy", 0)
        return build_policy(
            config.policy, config.policy_settings, lm=self.lm, offline=options.offline, pretrained=config.pretrained
        )

    def bench(self, task: str, seed: int, folder: Path, accept: AcceptRule | None = None) -> Workbench:
        """Return a run's workbench for a task and a seed.

        Args:
            task: its name.
            seed: chooses the support prompts.
            folder: where it writes.
            accept: the rule of acceptance; None for a run's default.

        Raises:
            InputError: no such task, or questions that the protocol cannot ask.
            UnavailableError: its source is not at hand.
        """
        found, config = get_task(task), self.shared.config(task, seed, accept)
        splits = self.splits(found, seed)
        return Workbench(
            config=config.model_copy(update=splits.sizes),
            folder=folder,
            task=found,
            splits=splits,
            protocol=protocol_of(config, found, splits),
            lm=self.lm,
            encoder=self.encoder,
            policy=self.policy,
            trained=find_trained(self.lm.sha256, found.name, "auto", align=True, folder=config.pretrained),
            states=self.states,
            record=lambda *_, **__: None,
            progress=self.progress,
        )

    def splits(self, task: Task, seed: int) -> Splits:
        """Return a task's questions; parts are those that baselines and generators know, whatever the sizes."""
        reward, test = self.shared.measured(task.name)
        return Splits(choose(part(task, "support"), PROMPTS, f"{seed}:support"), reward, test)
