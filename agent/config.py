"""The configuration of a run: defaults, then a TOML file, then the command line; secrets never.

The environment is read for secrets only, by the client that needs one.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from cao.configuration import (
    TABLES,
    ByChat,
    Device,
    Dtype,
    FileGrader,
    FileKeys,
    ModelName,
    ModelPath,
    Offline,
    Pretrained,
    Profile,
    RunsFolder,
    Seed,
    Settings,
    Variant,
    assigned,
    merge,
    read_config_file,
    read_settings,
    validated,
)
from cao.errors import InputError
from cao.files import is_path, sha256_file, sha256_folder
from cao.model.profiles import absolute_model, check_model
from cao.options import Option
from cao.policy_settings import PolicySettings
from cao.profile_settings import ProfileSettings
from cao.strategies.ttl import TTLSettings
from cao.types import AcceptRule, Until

NOT_IN_FINGERPRINT = {"out", "offline", "pretrained"}
"""Where a run lies and whether the network may be used change nothing about its result; trained parts count by hash."""

OPTIONS = (
    *(
        "task",
        "prompts",
        "map",
        "grader",
        "model",
        "model_path",
        "policy",
        "describer",
        "adapter",
        "reference",
        "support",
        "reward",
        "test",
    ),
    *("max_attempts", "until", "minutes", "accept", "seed", "out", "device", "dtype", "offline", "pretrained"),
)
"""Keys that are options of ``python -m agent.run`` too; the others go through ``--set`` and the file."""


class RunConfig(BaseModel):
    """Everything that decides what a run does; the descriptions are the help of its options, too."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    task: Annotated[
        str,
        Field(min_length=1, max_length=4096, description="a known task, or your own questions"),
        Option("NAME|FILE"),
    ]
    prompts: Annotated[
        str | None,
        Field(min_length=1, max_length=4096, description="prompts for the tools; their answers, if any, are not read"),
        Option("NAME|FILE", default="a share of the task's own questions"),
    ] = None
    map: FileKeys = ""
    grader: FileGrader = "auto"
    chat: ByChat = "auto"
    model: ModelName = "smollm2-135m"
    model_path: ModelPath = None
    profile: Profile = ProfileSettings()
    start_adapter: Annotated[
        str | None,
        Field(description="a PEFT folder the deployed model already carries; generated adapters must beat it"),
    ] = None
    pool: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=4096)]],
        Field(max_length=16, description="PEFT folders of your own that TTS may let answer with the model's adapters"),
    ] = []
    adapter: Annotated[
        Literal["none", "generated", "aligned"],
        Field(description="what the loop may start from besides the deployed model"),
        Option(default="aligned: generated and aligned"),
    ] = "aligned"
    variant: Variant = "auto"
    policy: Annotated[
        str,
        Field(description="who proposes strategies: local, openai, fixed, random, portfolio, surrogate"),
        Option("NAME"),
    ] = "local"
    describer: Annotated[str, Field(description="who describes the task: cached, local, openai"), Option("NAME")] = (
        "cached"
    )
    protocol: Annotated[
        Literal["auto", "likelihood", "generate"],
        Field(description="how answers are judged; auto ranks choices where there are some and generates otherwise"),
    ] = "auto"
    reference: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=4096)]],
        Field(
            max_length=64,
            description="what the deployed model is for, as agent.drift takes it; drift is judged against it, and"
            " without drift the run ends (--set when_no_drift=go_on adapts all the same). Without it every registered"
            " task counts as expected, and the verdict steers nothing",
        ),
        Option("NAME[,NAME]|FILE"),
    ] = []
    when_no_drift: Annotated[
        Literal["stop", "go_on"],
        Field(description="with a reference, what no drift means: stop ends the run, go_on adapts all the same"),
    ] = "stop"
    support: Annotated[int, Field(ge=1, le=5000, description="unlabelled prompts for the tools"), Option("N")] = 32
    reward: Annotated[int, Field(ge=2, le=20_000, description="questions that steer the loop"), Option("N")] = 96
    test: Annotated[int, Field(ge=2, le=20_000, description="questions read once, at the end"), Option("N")] = 200
    max_attempts: Annotated[
        int, Field(ge=1, le=100, description="proposals at most, rejected ones included"), Option("N")
    ] = 4
    minutes: Annotated[
        Annotated[float, Field(gt=0, le=100_000)] | None,
        Field(description="time budget: sizes, attempts and strategies are cut to fit it"),
        Option("N"),
    ] = None
    accept: Annotated[
        AcceptRule,
        Field(
            description="when a model counts as better: either (log-loss surely lower and accuracy not lower, or"
            " accuracy surely higher and log-loss not surely higher; sure is by what the questions can see and at"
            " one-sided .05, shared among the attempts or the adapters to start from), confident (log-loss lower and"
            " accuracy not, at .1) or any (accuracy higher)"
        ),
    ] = "either"
    answer_rules: Annotated[
        bool,
        Field(description="measure the deployed model and the adapters under every answer rule, or the default alone"),
    ] = True
    until: Annotated[
        Until,
        Field(
            description="when the loop ends: first (at the first accepted strategy) or budget (accepted strategies"
            " stack until the attempts or the minutes are used up)"
        ),
    ] = "first"
    serving_price: Annotated[
        float,
        Field(
            ge=0.0,
            le=1.0,
            description="what a strategy must gain besides for every doubling of a question's cost, and where it makes"
            " an adapter folder useless: nats of log-loss, or as large a share of the questions; accept any asks none",
        ),
    ] = 0.005
    racing: Annotated[
        bool,
        Field(description="drop a candidate without prospects before it has answered every reward question"),
    ] = True
    racing_error: Annotated[
        float,
        Field(
            gt=0.0,
            le=0.5,
            description="probability, at most, that racing drops a candidate which all reward questions would accept",
        ),
    ] = 0.05
    racing_check: Annotated[
        bool, Field(description="measure dropped candidates to the end all the same, and report whether that agrees")
    ] = False
    seed: Seed = 0
    out: RunsFolder = "runs"
    device: Device = "cpu"
    dtype: Dtype = "auto"
    offline: Offline = False
    threads: Annotated[
        Annotated[int, Field(ge=1, le=1024)] | None, Field(description="torch threads, all cores when absent")
    ] = None
    policy_sees_drift: Annotated[
        bool, Field(description="the policy reads the drift report too, which goes beyond the paper's τ")
    ] = True
    policy_sees_measurements: Annotated[
        bool,
        Field(description="the policy reads what was measured of the prompts and adapters; it is beyond τ, too"),
    ] = True
    policy_settings: Annotated[PolicySettings, Field(description="how the policy and the describer work")] = (
        PolicySettings()
    )
    ttl: Annotated[TTLSettings, Field(description="what TTL trains: subset, share, peft, virtual_tokens")] = (
        TTLSettings()
    )
    pretrained: Pretrained = None

    def fingerprint(self) -> dict[str, JsonValue]:
        """Return what must be equal for a run to be resumed, a user's file by its content."""
        values: dict[str, JsonValue] = self.model_dump(mode="json", exclude=NOT_IN_FINGERPRINT)
        if not self.reference:  # runs of versions that knew none go on
            del values["reference"], values["when_no_drift"]
        for key in ("prompts", "map", "grader", "chat", "profile", "ttl", "pool"):
            if getattr(self, key) == RunConfig.model_fields[key].default:
                del values[key]
        if self.policy_settings.profile is None:
            values["policy_settings"] = self.policy_settings.model_dump(mode="json", exclude={"profile"})
        if self.pool:
            values["pool"] = [sha256_folder(Path(folder), "adapter_*") for folder in self.pool]
        if self.start_adapter and Path(self.start_adapter).is_dir():
            values["start_adapter"] = sha256_folder(Path(self.start_adapter), "adapter_*")
        files = {f"reference {source}": source for source in self.reference}
        strategies = self.policy_settings.strategy_file
        files |= {"task": self.task, "prompts": self.prompts or "", "strategy_file": strategies or ""}
        for key, path in files.items():
            if path and Path(path).is_file():
                values[f"{key}_sha256"] = sha256_file(Path(path))
            elif key in ("task", "prompts") and is_path(path) and Path(path).is_dir():
                values[f"{key}_sha256"] = sha256_folder(Path(path))
        return values


def named_sources(given: list[str]) -> list[str]:
    """Return references one by one; names may be joined by commas, a file's name keeps its own."""
    parted = ([source] if is_path(source) else source.split(",") for source in given)
    return [part.strip() for parts in parted for part in parts if part.strip()]


def _absolute(values: dict[str, object]) -> None:
    """Make the paths of input files absolute, so that a run can be resumed from another folder."""
    references = values.get("reference")
    if isinstance(references, list) and all(isinstance(source, str) for source in references):
        values["reference"] = [os.path.abspath(source) if is_path(source) else source for source in references]
    pool = values.get("pool")
    if isinstance(pool, list):
        values["pool"] = [os.path.abspath(each) if isinstance(each, str) and each else each for each in pool]
    settings = values.get("policy_settings")
    if isinstance(settings, dict):
        values["policy_settings"] = settings = dict(settings)
    places = [(values, key) for key in ("task", "prompts", "model_path", "start_adapter", "pretrained")]
    places += [(settings, key) for key in ("strategy_file", "model_path")] if isinstance(settings, dict) else []
    for table, key in places:
        path = table.get(key)
        if not isinstance(path, str) or not path or "\0" in path:
            continue
        if key not in ("task", "prompts") or is_path(path):
            table[key] = os.path.abspath(path)
    for holder in (values, settings):
        if isinstance(holder, dict) and isinstance(name := holder.get("model"), str):
            holder["model"] = absolute_model(name)


def make_config(file: Path | None, options: Mapping[str, object], assignments: list[str]) -> RunConfig:
    """Build the configuration: defaults, file, command-line options, then ``--set`` assignments.

    Args:
        file: a TOML file, or None.
        options: what the command line gave explicitly.
        assignments: the ``--set`` texts.

    Raises:
        InputError: an unknown key, an impossible value, an unknown model.
    """
    content = read_config_file(file) if file else {}
    own = {key: value for key, value in content.items() if key not in TABLES}
    values = merge(merge(own, options), assigned(assignments))
    if isinstance(reference := values.get("reference"), str):
        values["reference"] = named_sources([reference])
    _absolute(values)
    if "task" not in values:
        raise InputError("no task; give --task NAME or --task FILE (python -m agent.doctor lists the names)")
    config = validated(RunConfig, values, "configuration")
    if "\0" in config.out:
        raise InputError("configuration: out: a path cannot hold a NUL character")
    check_model(config.model)
    if config.policy_settings.model is not None:
        check_model(config.policy_settings.model, "the policy")
    return config


def settings_of(model: type[Settings], arguments: argparse.Namespace, table: str, *, settable: bool = True) -> Settings:
    """Return a command's settings, as ``read_settings`` does; what stands at a file's top must be a run's key.

    Args:
        model: the settings' type.
        arguments: the command line, understood.
        table: the command's own table in a file.
        settable: whether the ``--set`` texts are among these settings.
    """
    return read_settings(model, arguments, table, RunConfig.model_fields, settable=settable)
