"""What a run is asked for, understood and checked before anything that computes is imported.

A mistyped name, a bad line of a file and ``--dry-run`` are answered from here: torch takes seconds to import.
"""

import difflib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from agent.budget.fit import fit
from agent.budget.memory import task_profile
from agent.budget.plan import START_UP_SECONDS, Speed, expected_starts, expected_variant
from agent.budget.printing import print_plan
from agent.config import RunConfig, make_config
from agent.record.runs import find_run
from cao.configuration import merge
from cao.encodings import visible
from cao.errors import InputError, UnavailableError
from cao.files import opened, sealed, write_json
from cao.machine.compute import choose_compute
from cao.tasks import get_prompts, get_task
from cao.tasks.base import Task
from cao.tasks.splits import DEFAULT_SIZES, Splits, choose, split
from cao.types import CONFIG_FILE, AnswerProtocol, DtypeChoice
from policies.describe import DESCRIBERS, check_describer
from policies.registry import OF_A_MODEL, POLICIES, build_policy, check_learnt

MISSING = (
    "no answers are known: without them nothing is measured, and no adapter and no strategy is accepted",
    "give some questions with their answers to have what was made judged: 56 at least",
)
"""What is said of a run without labels."""


class RunHeader(BaseModel):
    """What ``config.json`` holds: enough to resume a run, and to refuse another one in its place.

    Attributes:
        run_id: the folder's name.
        created: ISO-8601 UTC.
        config: the configuration, as the version that began the run has it.
        dtype_asked: the dtype that the command line named; older versions did not write it.
        fingerprint: what of the configuration must stay equal.
        graph_sha256, model_sha256: hashes of the graph and of the model's weights.
        pretrained: trained part → its hash.
        replay_of: ``run_id`` and ``node`` of the run that this one was forked from, where it was.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    run_id: str
    created: str
    config: dict[str, JsonValue]
    dtype_asked: DtypeChoice | None = None
    fingerprint: dict[str, JsonValue]
    graph_sha256: str
    model_sha256: str
    pretrained: dict[str, str]
    replay_of: dict[str, str] | None = None

    def write(self, folder: Path) -> None:
        """Write ``config.json`` into a run's folder."""
        write_json(folder / "config.json", sealed(self.model_dump(mode="json", exclude_unset=True)))


@dataclass(frozen=True)
class Request:
    """A run that can be made as far as its configuration and data tell.

    Attributes:
        config: the run's configuration.
        task: what to adapt to.
        splits: its questions.
        protocol: how answers are judged.
        stored: the content of ``config.json`` of the run to resume, None for a new one.
        told: what is said before anything is computed, a line each.
        forked: the run that this one is a fork of, and the step that it begins with; None where it is none.
    """

    config: RunConfig
    task: Task
    splits: Splits
    protocol: AnswerProtocol
    stored: RunHeader | None
    told: tuple[str, ...] = ()
    forked: dict[str, str] | None = None


def understand(
    options: Mapping[str, object], *, file: Path | None = None, assignments: list[str], resume: str | None = None
) -> Request:
    """Return what ``python -m agent.run`` is asked for.

    Args:
        options: the configuration keys that the command line gave.
        file: a configuration file.
        assignments: the ``--set`` texts.
        resume: the run to go on with.

    Raises:
        InputError: something of it cannot be used; every mistake in the data is found here.
    """
    stored = read_stored(Path(str(options.get("out", "runs"))), resume) if resume is not None else None
    if stored and options.get("dtype") == "auto":
        options = {key: value for key, value in options.items() if key != "dtype"}  # it stays what it was
    config = make_config(file, merge(stored.config if stored else {}, options), assignments)
    if stored:
        refuse_changes(stored, config)
    check_names(config)
    check_folders(config)
    check_here(config.device)
    task, splits, protocol = read_task(config)
    cut = {part: size for part, size in splits.sizes.items() if size}
    told = told_of(config, task, splits)
    config = config.model_copy(update=cut)
    if config.reference:
        from tools.detect_drift.reference import check_sources  # noqa: PLC0415  (seconds to import)

        check_sources(config.reference)
    return Request(config, task, splits, protocol, stored, told)


def check_folders(config: RunConfig) -> None:
    """Refuse folders that a run would fail at once its models are loaded.

    Raises:
        InputError: runs cannot be put where they are to go, or a folder that is read is none of its kind.
    """
    out = Path(config.out)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is no folder; name one")
    above = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"--out {out}: nothing can be written into {above}; choose another --out")
    if config.pretrained is not None and not Path(config.pretrained).is_dir():
        raise InputError(f"--pretrained {config.pretrained}: there is no such folder; leave it out for what ships")
    named = [(folder, f"{folder} cannot be a member of pool") for folder in config.pool]
    named += [(config.start_adapter, f"start_adapter {config.start_adapter}")] if config.start_adapter else []
    for folder, what in named:
        if not (Path(folder) / CONFIG_FILE).is_file():
            raise InputError(f"{what}: no {CONFIG_FILE}; an adapter is a folder in PEFT format")


def told_of(config: RunConfig, task: Task, splits: Splits) -> tuple[str, ...]:
    """Return what is said of a user's file before anything is computed: how it was read, and sizes that fit it."""
    told = list(task.reading.sentences()) if task.reading and not task.reading.plain else []
    cut = [f"{size} {part}" for part, size in splits.sizes.items() if size and size != getattr(config, part)]
    if cut:
        told.append(f"sizes that fit: {', '.join(cut)}; --support, --reward and --test state others")
    return (*told, *missing(task))


def missing(task: Task) -> tuple[str, ...]:
    """Return what a run of a task without labels cannot do, in sentences without their full stop; else nothing."""
    return () if task.labelled else MISSING


def check_names(config: RunConfig) -> None:
    """Raise InputError where nobody is called what the policy or the describer is."""
    for kind, name, known in (("policy", config.policy, POLICIES), ("describer", config.describer, DESCRIBERS)):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {close[0]}? " if close else ""
            raise InputError(f"unknown {kind} {name!r}; {meant}known: {', '.join(known)}")


def check_here(device: str) -> None:
    """Raise an error where a device is not here; torch is asked for an accelerator only."""
    if device != "cpu":
        from cao.model.loading import check_device  # noqa: PLC0415  (seconds to import)

        check_device(device)


def check_remote(config: RunConfig) -> None:
    """Find out whether describer and policy can be had, as far as that needs no weights; nothing is sent.

    Raises:
        InputError: the file of strategies cannot be used.
        UnavailableError: a key, a package, or what a policy was to have learnt is missing.
    """
    check_describer(config.describer, config.policy_settings, offline=config.offline)
    if config.policy in OF_A_MODEL:
        check_learnt(config.policy, config.policy_settings, task_profile(config).name, config.pretrained)
    else:
        build_policy(config.policy, config.policy_settings, lm=None, offline=config.offline)


def read_task(config: RunConfig) -> tuple[Task, Splits, AnswerProtocol]:
    """Return the task, its splits and the protocol; every mistake in the data is found here."""
    task = get_task(config.task, keys=config.map, grader=config.grader)
    free = [part for part in DEFAULT_SIZES if part not in config.model_fields_set]
    sizes = {"support": config.support, "reward": config.reward, "test": config.test}
    if config.prompts is None:
        splits = split(task, **sizes, seed=config.seed, free=free)
        return task, splits, protocol_of(config, task, splits)
    if not task.labelled:
        raise InputError(f"--prompts: {task.name} has no answers, so it is what the tools are given; leave one out")
    prompts = choose(get_prompts(config.prompts), config.support, f"{config.seed}:support")
    splits = split(task, **{**sizes, "support": 1}, seed=config.seed, free=[part for part in free if part != "support"])
    splits = replace(splits, support=prompts)
    protocol = protocol_of(config, task, splits)
    try:
        for example in prompts if protocol == "likelihood" else ():
            task.asked(example, "text")
    except (ValueError, IndexError):
        raise InputError(f"--prompts {config.prompts}: have not the form in which {task.name} asks") from None
    return task, splits, protocol


def protocol_of(config: RunConfig, task: Task, splits: Splits) -> AnswerProtocol:
    """Return how answers are judged.

    Raises:
        InputError: choices are to be ranked and there are none.
    """
    choices = bool((splits.reward or splits.support)[0].choices)
    if config.protocol == "likelihood" and not choices:
        raise InputError(f"{task.name} has no choices to rank; use --set protocol=generate")
    automatic: AnswerProtocol = "likelihood" if choices else "generate"
    return automatic if config.protocol == "auto" else config.protocol


def read_stored(out: Path, run_id: str) -> RunHeader:
    """Return the content of a run's ``config.json``."""
    folder = find_run(out, run_id)
    path = folder / "config.json"
    try:
        stored = RunHeader.model_validate_json(opened(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{path}: missing or damaged; this run cannot be resumed, start a new one") from None
    if stored.run_id != folder.name:
        raise InputError(f"{folder}: holds run {visible(stored.run_id)}; give the folder that name")
    config = {key: value for key, value in stored.config.items() if value is not None}
    return stored.model_copy(update={"config": config})


def refuse_changes(stored: RunHeader, config: RunConfig) -> None:
    """Raise InputError where a run would be resumed with another configuration."""
    before, now = stored.fingerprint, config.fingerprint()
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        key = changed[0]
        raise InputError(
            f"run {stored.run_id} was started with {key}={before.get(key)!r}, now it is {now.get(key)!r}; "
            "resume without that option, or start a new run"
        )


def _lacks(config: RunConfig) -> list[str]:
    """Return what keeps a run from starting though its configuration is sound."""
    try:
        check_remote(config)
    except UnavailableError as error:
        return [str(error)]
    return []


def show_plan(asked: Request, *, as_json: bool) -> None:
    """Print what a run would do; a time budget goes by the measured rates, where the run itself times some prompts."""
    config, task, splits, protocol = asked.config, asked.task, asked.splits, asked.protocol
    compute = choose_compute(config.dtype, config.device)
    if config.minutes is not None:
        speed, left = Speed.of(compute, task_profile(config)), 60 * config.minutes - START_UP_SECONDS
        starts = expected_starts(config, expected_variant(config, task.name))
        config = fit(config, speed, task, splits, protocol, starts, left).config
        task, splits, protocol = read_task(config)
    print_plan(config, compute, task, splits, protocol, asked.told, _lacks(config), as_json=as_json)
    sys.stdout.flush()
