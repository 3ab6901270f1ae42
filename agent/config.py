"""The configuration of a run: defaults, then a TOML file, then the command line; secrets never.

The environment is read for secrets only, by the client that needs one.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cao.configuration import assigned, merge, read_config_file, validated
from cao.errors import InputError
from cao.files import is_path, sha256_file
from cao.model.profiles import find_profile
from cao.types import AcceptRule, DtypeChoice
from policies.base import PolicySettings

NOT_IN_FINGERPRINT = {"out", "offline"}
"""Where a run lies and whether the network may be used change nothing about its result."""


class RunConfig(BaseModel):
    """Everything that decides what a run does.

    Attributes:
        task: a task's name or a JSONL file.
        model: a model profile.
        model_path: a folder that takes the place of the profile's source.
        start_adapter: a PEFT folder the deployed model already carries; generated adapters must beat it.
        adapter: what the loop may start from besides the deployed model: nothing, the generated adapter, or that and
            the aligned one.
        variant: which trained generator: ``full``, ``without-TASK``, or ``auto``, which takes one that never saw the
            task where there is one.
        policy: who proposes strategies.
        describer: who writes the task context.
        protocol: how answers are judged; ``auto`` ranks choices where there are some and generates otherwise.
        reference: what the deployed model is for, names or files as ``python -m agent.drift`` takes them; drift is
            judged against it. Without it every registered task counts as expected, and the verdict steers nothing.
        when_no_drift: with a reference, what no drift means: ``stop`` ends the run, ``go_on`` adapts all the same.
        support: unlabelled prompts that the tools may use.
        reward: questions that steer the loop.
        test: questions that are read once, at the end.
        max_attempts: proposals at most, rejected ones included.
        minutes: time budget; reward and test part, attempts and strategies are cut to fit it. None for none.
        accept: ``confident`` (accuracy not lower, log-loss lower at one-sided .1) or ``any`` (accuracy higher).
        racing: whether a candidate without prospects is dropped before it has answered every reward question.
        racing_error: probability, at most, that racing drops a candidate which all reward questions would accept.
        racing_check: measure dropped candidates to the end all the same and report whether the verdict agrees.
        seed: of every random choice in the run.
        out: the folder of runs.
        device: torch device.
        dtype: what the language model computes in; ``auto`` is the faster one on the processor at hand.
        offline: never touch the network.
        threads: torch threads, all cores when absent.
        policy_sees_drift: whether the policy reads the drift report too, which goes beyond the paper's τ.
        policy_sees_measurements: whether it reads what was measured of the prompts and adapters, which does so too.
        policy_settings: how the policy and the describer work.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    task: Annotated[str, Field(min_length=1, max_length=4096)]
    model: str = "smollm2-135m"
    model_path: str | None = None
    start_adapter: str | None = None
    adapter: Literal["none", "generated", "aligned"] = "aligned"
    variant: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,80}$")] = "auto"
    policy: str = "local"
    describer: str = "cached"
    protocol: Literal["auto", "likelihood", "generate"] = "auto"
    reference: Annotated[list[Annotated[str, Field(min_length=1, max_length=4096)]], Field(max_length=64)] = []
    when_no_drift: Literal["stop", "go_on"] = "stop"
    support: Annotated[int, Field(ge=1, le=5000)] = 32
    reward: Annotated[int, Field(ge=2, le=20_000)] = 96
    test: Annotated[int, Field(ge=2, le=20_000)] = 200
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 4
    minutes: Annotated[float, Field(gt=0, le=100_000)] | None = None
    accept: AcceptRule = "confident"
    racing: bool = True
    racing_error: Annotated[float, Field(gt=0.0, le=0.5)] = 0.05
    racing_check: bool = False
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    out: str = "runs"
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?|mps)$")] = "cpu"
    dtype: DtypeChoice = "auto"
    offline: bool = False
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    policy_sees_drift: bool = True
    policy_sees_measurements: bool = True
    policy_settings: PolicySettings = PolicySettings()

    def fingerprint(self) -> dict[str, Any]:
        """Return what must be equal for a run to be resumed, a user's file by its content."""
        values = self.model_dump(mode="json", exclude=NOT_IN_FINGERPRINT)
        if not self.reference:  # runs of versions that knew none go on
            del values["reference"], values["when_no_drift"]
        files = {f"reference {source}": source for source in self.reference}
        files |= {"task": self.task, "strategy_file": self.policy_settings.strategy_file or ""}
        for key, path in files.items():
            if path and Path(path).is_file():
                values[f"{key}_sha256"] = sha256_file(Path(path))
        return values


def named_sources(given: list[str]) -> list[str]:
    """Return references one by one; names may be joined by commas, a file's name keeps its own."""
    parted = ([source] if is_path(source) else source.split(",") for source in given)
    return [part.strip() for parts in parted for part in parts if part.strip()]


def _absolute(values: dict[str, Any]) -> None:
    """Make the paths of input files absolute, so that a run can be resumed from another folder."""
    references = values.get("reference")
    if isinstance(references, list) and all(isinstance(source, str) for source in references):
        values["reference"] = [os.path.abspath(source) if is_path(source) else source for source in references]
    settings = values.get("policy_settings")
    if isinstance(settings, dict):
        values["policy_settings"] = settings = dict(settings)
    places = [(values, key) for key in ("task", "model_path", "start_adapter")]
    places += [(settings, key) for key in ("strategy_file", "model_path")] if isinstance(settings, dict) else []
    for table, key in places:
        path = table.get(key)
        is_file = isinstance(path, str) and "\0" not in path and (key != "task" or path.lower().endswith(".jsonl"))
        if is_file and path:
            table[key] = os.path.abspath(path)


def make_config(file: Path | None, options: dict[str, Any], assignments: list[str]) -> RunConfig:
    """Build the configuration: defaults, file, command-line options, then ``--set`` assignments.

    Args:
        file: a TOML file, or None.
        options: what the command line gave explicitly.
        assignments: the ``--set`` texts.

    Raises:
        InputError: an unknown key, an impossible value, an unknown model.
    """
    values = merge(merge(read_config_file(file) if file else {}, options), assigned(assignments))
    if isinstance(values.get("reference"), str):
        values["reference"] = named_sources([values["reference"]])
    _absolute(values)
    if "task" not in values:
        raise InputError("no task; give --task NAME or --task FILE.jsonl (python -m agent.doctor lists the names)")
    config = validated(RunConfig, values, "configuration")
    if "\0" in config.out:
        raise InputError("configuration: out: a path cannot hold a NUL character")
    find_profile(config.model)
    return config
