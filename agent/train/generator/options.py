"""What the command ``agent.consolidate`` takes; it is understood before anything that computes is imported."""

from typing import Annotated

from pydantic import Field, model_validator

from cao.configuration import Machine, Pretrained, RunsFolder, Seed, Workers
from cao.options import Option


class ConsolidateOptions(Machine):
    """What the command takes.

    Attributes:
        values: what is laid over the preset: every key that is no other field of these options.
    """

    preset: Annotated[
        str | None,
        Field(description="wide, small, embedded, paper-0.5b or paper-1.5b"),
        Option("NAME", default="the model's own"),
    ] = None
    seed: Seed = 0
    out: RunsFolder = "runs"
    workers: Workers = 1
    install: Annotated[bool, Field(description="put the finished weights where agent.run finds them")] = False
    sources: Annotated[
        tuple[str, ...] | None,
        Field(description="learn on these tasks' train parts and on all of your own files; preset stands for its own"),
        Option("NAME|FILE,...", commas=True, default="the preset's"),
    ] = None
    pretrained: Pretrained = None
    values: dict[str, object] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, given: dict[str, object]) -> dict[str, object]:
        own = {key: value for key, value in given.items() if key in cls.model_fields}
        return own if len(own) == len(given) else {**own, "values": {k: v for k, v in given.items() if k not in own}}


OPTIONS = tuple(name for name in ConsolidateOptions.model_fields if name != "values")
"""The fields that are options of the command; the values go through ``--set`` and the file."""
