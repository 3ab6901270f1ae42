"""What the command line of the policy's training asks for, checked before anything is computed."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from agent.config import RunConfig
from agent.train.engine.settings import EngineSettings
from agent.train.files import read_json
from agent.train.policy.options import DEFAULT_HELD_OUT, DEFAULT_TASKS
from agent.train.policy.rest_em import Sampling
from agent.train.policy.situations import Wanted
from cao.configuration import Count, CountOrNone
from cao.errors import InputError
from cao.files import canonical_json, is_path, sha256_bytes, sha256_file
from cao.tasks import TASKS, get_task
from cao.tasks.same_problems import saw
from cao.types import Record

LEAST_STEPS = 50
"""Steps of a fine-tuning at least: measured, 12 steps of three lessons teach nothing, 42 do (ADR 45)."""

KEPT = 10
"""Improving samples of one situation that the policy is fine-tuned on, at most."""


NOT_PRACTISED = {
    "prompts": "its prompts are the tasks' own",
    "map": "files are read by the names of their columns",
    "grader": "files are graded as they say",
    "reference": "every task is taken to have drifted",
    "minutes": "sizes are what you say",
    "ttl": "TTL is measured as the policy writes it",
}
"""Keys of a run that would be passed over in silence, and what practice does instead."""


class Tuning(Record):
    """How a policy is fine-tuned.

    Attributes:
        epochs: passes over the prompts.
        least_steps: passes are added until there are so many steps: where little improves the model, a few steps
            teach nothing.
        rate: AdamW's learning rate, constant.
        seed: of the prompts' order.
    """

    epochs: Count = 4
    least_steps: CountOrNone = Field(default=0, exclude_if=lambda steps: steps == 0)  # older trainings had no such key
    rate: float = 3e-4
    seed: int = 0


class Claim(TypedDict, total=False):
    """What a training's folder is for, as its ``config.json`` states it."""

    files: dict[str, str]
    config: dict[str, JsonValue]
    tasks: list[str]
    held_out: list[str]
    seeds: int
    sampling: dict[str, JsonValue]
    tuning: dict[str, JsonValue]
    bare: bool
    budget: int | None
    landscape: bool
    warm_start: bool
    seed: int


class Settings(Record):
    """What the command line asks for.

    Attributes:
        config: of the runs that the situations stand for.
        tasks: what the policy learns on; every question is from their train parts.
        held_out: what it is only measured on.
        seeds: draws of questions for each task.
        iterations: of sampling and fine-tuning.
        sampling: how many samples a situation gets.
        tuning: how the model is fine-tuned.
        bare: practise on each task without an adapter, too.
        budget: prompts that a TTL strategy may train on, steps times batch size; one above it is not tried and earns
            nothing. None: no bound but the strategies' own.
        landscape: measure the whole grid of strategies in every situation first.
        warm_start: begin with a fine-tuning on the grid's points that are known to improve the model in practice.
        out: folder of runs.
        seed: of every draw.
        workers: processes that share the situations.
        engine: what runs them.
    """

    config: RunConfig
    tasks: Annotated[tuple[str, ...], Field(min_length=1)] = DEFAULT_TASKS
    held_out: tuple[str, ...] = DEFAULT_HELD_OUT
    seeds: Count = 2
    iterations: CountOrNone = 2
    sampling: Sampling = Sampling()
    tuning: Tuning = Tuning()
    bare: bool = False
    budget: Count | None = None
    landscape: bool = False
    warm_start: bool = False
    out: Path = Path("runs")
    seed: int = 0
    workers: Count = 1
    engine: EngineSettings = EngineSettings()

    @property
    def folder(self) -> Path:
        """The training's folder, the same for the same command."""
        claimed = repr(sorted(self.claim().items()))
        return self.out / f"policy-{self.config.model}-s{self.seed}-{sha256_bytes(claimed.encode())[:8]}"

    @property
    def situations_folder(self) -> Path:
        """The folder of situations, which other trainings and the tables share."""
        return self.out / "situations"

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """Every situation, those to learn in first; with ``bare``, practice has each task without an adapter too."""
        kinds = (False, True) if self.bare else (False,)
        learn = (Wanted(t, seed, True, bare) for seed in range(self.seeds) for t in self.tasks for bare in kinds)
        hold_out = (Wanted(t, seed, False) for seed in range(self.seeds) for t in self.held_out)
        return (*learn, *hold_out)

    def claim(self) -> Claim:
        """Return what a folder is for, in JSON values; of files among the tasks, what they hold too."""
        files = [task for task in (*self.tasks, *self.held_out) if is_path(task) and Path(task).is_file()]
        return {
            **({"files": {file: sha256_file(Path(file)) for file in files}} if files else {}),
            "config": self.config.fingerprint(),
            "tasks": list(self.tasks),
            "held_out": list(self.held_out),
            "seeds": self.seeds,
            "sampling": self.sampling.model_dump(),
            "tuning": self.tuning.model_dump(),
            "bare": self.bare,
            "budget": self.budget,
            **({"landscape": True} if self.landscape else {}),  # folders of versions that did not say it stay
            "warm_start": self.warm_start,
            "seed": self.seed,
        }

    def check(self) -> None:
        """Find mistakes in the tasks' names before a model is loaded.

        Raises:
            InputError: nothing to do, a task to learn on without a train part, the same task on both sides, or two
                files of one name.
        """
        for key in NOT_PRACTISED:
            if getattr(self.config, key) != RunConfig.model_fields[key].default:
                raise InputError(f"{key} is for a single run; in practice {NOT_PRACTISED[key]}: leave it out")
        if not (self.iterations or self.warm_start or self.landscape):
            raise InputError("--iterations 0 leaves nothing to learn: add --landscape or --warm-start")
        both = sorted(name for name in self.tasks if saw(name, self.held_out))
        if both:
            same = "" if both[0] in self.held_out else " in other words (its problems are another task's)"
            raise InputError(f"{both[0]} cannot be learnt on and held out{same} at once")
        without = [name for name in self.tasks if name in TASKS and not get_task(name).has_train]
        if without:
            raise InputError(f"{without[0]} sets nothing aside for training; hold it out instead")
        called: dict[str, str] = {}
        for given in (*self.tasks, *self.held_out):
            if is_path(given) and called.setdefault(get_task(given).name, given) != given:
                raise InputError(f"{called[get_task(given).name]} and {given} are tasks of one name; rename a file")


def read_settings(folder: Path) -> Settings:
    """Return what a training's folder is for, as its ``config.json`` states it.

    Args:
        folder: what ``agent.train_policy`` wrote; its iterations are those that are done.

    Raises:
        InputError: this is no training's folder, or its settings cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder}: no training's folder (no config.json); python -m agent.train_policy makes one")
    read = read_json(path, dict[str, object])
    try:
        stored = TypeAdapter(Claim).validate_python(read)
        config = {key: value for key, value in stored["config"].items() if key in RunConfig.model_fields}
        return Settings(
            config=RunConfig.model_validate_json(canonical_json(config)),
            tasks=tuple(stored["tasks"]),
            held_out=tuple(stored["held_out"]),
            seeds=stored["seeds"],
            iterations=len(list(folder.glob("policy-[1-9]*"))),
            sampling=Sampling(**stored["sampling"]),
            tuning=Tuning(**stored["tuning"]),
            bare=stored.get("bare", False),
            budget=stored["budget"],
            landscape=stored.get("landscape", False),
            warm_start=stored["warm_start"],
            out=folder.parent,
            seed=stored["seed"],
        )
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a training's settings ({type(error).__name__})") from None
