"""What the commands of one stage alone take; nothing here computes."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from cao.configuration import Machine, Offline, Pretrained, Registry, Seed, Variant
from cao.options import Option
from cao.strategy import parse_strategy
from cao.types import Record

TRAINED = ("TTL", "LORA")
"""Families that need no labels and leave one adapter, as ``generate`` writes it."""


class DriftOptions(Machine):
    """What ``drift`` takes."""

    reference: Annotated[
        tuple[str, ...],
        Field(
            description="the tasks that prompts are expected from: a registered name, a task's name, a file with one"
            " prompt a line, or a reference file; the other registered tasks are known too"
        ),
        Option("NAME|FILE", default="every registered task"),
    ] = ()
    registry: Registry = None
    windows: Annotated[
        Path,
        Field(
            description="one prompt a line, all of them one window, or one JSON list of prompts a line, each a window"
        ),
        Option("FILE"),
    ]
    window: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="cut a file with one prompt a line into windows of N; the last one may be smaller"),
        Option("N"),
    ] = None
    alpha: Annotated[float, Field(gt=0, lt=1, description="level of the test, in (0, 1)")] = 0.05
    seed: Seed = 0
    permutations: Annotated[int, Field(ge=1, description="of each test"), Option("N")] = 999
    signals: Annotated[bool, Field(description="ask the model too (later, and as dear as answering)")] = False


class GenerateOptions(Machine):
    """What ``generate`` takes."""

    prompts: Annotated[Path, Field(description="prompts of one task, no answers"), Option("FILE.jsonl")]
    out: Annotated[Path, Field(description="folder of the adapter, in PEFT format"), Option("DIR")]
    overwrite: Annotated[bool, Field(description="replace an earlier adapter of this command in DIR")] = False
    no_align: Annotated[bool, Field(description="stop after the generator")] = False
    strategy: Annotated[
        str | None,
        Field(description="then apply this strategy, TTL or LORA as JSON, to what was made; nothing judges it"),
        Option("JSON"),
    ] = None
    variant: Variant = "auto"
    pretrained: Pretrained = None

    @field_validator("strategy")
    @classmethod
    def _leaves_one_adapter(cls, text: str | None) -> str | None:
        if text is not None and (family := parse_strategy(text).family) not in TRAINED:
            raise ValueError(f"{family} leaves no adapter of its own to write; give {' or '.join(TRAINED)}")
        return text


class ListOptions(Record):
    """What ``reference list`` takes."""

    registry: Registry = None
    offline: Offline = False


class NameOptions(ListOptions):
    """What ``reference show`` and ``reference remove`` take."""

    name: Annotated[
        str, Field(description="small letters, digits, hyphens, underscores"), Option("NAME", positional=True)
    ]


class AddOptions(Machine):
    """What ``reference add`` takes."""

    name: Annotated[
        str, Field(description="small letters, digits, hyphens, underscores"), Option("NAME", positional=True)
    ]
    source: Annotated[
        str,
        Field(description="a prompt or question on each line, or a task's name"),
        Option("FILE.jsonl|TASK", positional=True),
    ]
    signals: Annotated[bool, Field(description="also ask the model, for drift of its option signals")] = False
    replace: Annotated[bool, Field(description="overwrite a reference of this name")] = False
    registry: Registry = None
