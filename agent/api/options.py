"""What the library's verbs take besides their data: the options of the commands of the same work, by the same names.

Defaults, bounds and meanings are the commands' own, stated at their settings; a test holds the names against them.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import JsonValue
from typing_extensions import TypedDict

from cao.policy_settings import PolicySettings
from cao.profile_settings import ProfileSettings
from cao.strategies.ttl import TTLSettings
from cao.types import AcceptRule, DtypeChoice, Until

PathLike = str | os.PathLike[str]
Table = Mapping[str, JsonValue]


class OnMachine(TypedDict, total=False):
    """Which model a verb works with, on what and in what it computes; see ``cao.configuration.Machine``."""

    model: PathLike
    model_path: PathLike | None
    profile: ProfileSettings | Table
    device: str
    dtype: DtypeChoice
    offline: bool


class AdaptOptions(OnMachine, total=False):
    """What ``adapt`` takes besides its data; see ``agent.config.RunConfig``."""

    map: str
    grader: str
    chat: Literal["auto", "on", "off"]
    start_adapter: PathLike | None
    ttl: TTLSettings | Table
    pool: Sequence[PathLike]
    adapter: Literal["none", "generated", "aligned"]
    variant: str
    policy: str
    describer: str
    protocol: Literal["auto", "likelihood", "generate"]
    reference: PathLike | Sequence[PathLike]
    when_no_drift: Literal["stop", "go_on"]
    support: int
    reward: int
    test: int
    max_attempts: int
    minutes: float | None
    accept: AcceptRule
    answer_rules: bool
    until: Until
    serving_price: float
    racing: bool
    racing_error: float
    racing_check: bool
    seed: int
    out: PathLike
    threads: int | None
    policy_sees_drift: bool
    policy_sees_measurements: bool
    policy_settings: PolicySettings | Table
    pretrained: PathLike | None


class DetectOptions(OnMachine, total=False):
    """What ``detect`` takes besides its windows; see ``agent.stages.options.DriftOptions``."""

    reference: PathLike | Sequence[PathLike]
    registry: PathLike | None
    window: int | None
    alpha: float
    seed: int
    permutations: int
    signals: bool


class GenerateOptions(OnMachine, total=False):
    """What ``generate`` takes besides prompts and folder; see ``agent.stages.options.GenerateOptions``."""

    overwrite: bool
    no_align: bool
    strategy: str | None
    variant: str
    pretrained: PathLike | None


class WatchOptions(TypedDict, total=False):
    """What ``watch`` takes besides its stream; see ``agent.stream.options.WatchOptions``."""

    reference: PathLike | Sequence[PathLike]
    registry: PathLike | None
    adapt: bool
    run_length: int
    window: int
    out: PathLike
    follow: bool
    seed: int
    device: str
    offline: bool


class LoadOptions(OnMachine, total=False):
    """What ``load`` takes besides its folder; see ``agent.handover.options.LoadOptions``."""

    start_adapter: PathLike | None


def plain(value: object) -> object:
    """Return a value as a file would state it: paths are texts, tuples lists, and numpy's values Python's own."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, ProfileSettings | PolicySettings):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if callable(listed := getattr(value, "tolist", None)):
        value = listed()
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value
