"""What ``serve`` takes; nothing here computes."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from agent.stream.options import RunLength, Window
from cao.configuration import Machine, Registry, RunsFolder, Seed
from cao.options import Option
from cao.types import Record

KEY = "CAO_SERVE_KEY"
"""The environment variable of the key that requests must bear."""

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""What a route is called."""


def _named(one: str) -> str:
    if not re.fullmatch(rf"{NAME}=.+", one):
        raise ValueError("write NAME=RUN or NAME=DIR, with a NAME of letters, digits, . _ and -")
    return one


class ServeOptions(Machine):
    """What the command takes."""

    host: Annotated[str, Field(min_length=1, max_length=255, description="address to listen at"), Option("HOST")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Field(ge=0, le=65535, description="0 takes a free one, which is told"), Option("N")] = 8000
    adopted: Annotated[
        tuple[Annotated[str, Field(max_length=4096), AfterValidator(_named)], ...],
        Field(
            max_length=32, description="what a run adopted, served as the model NAME: its id or folder, or an export"
        ),
        Option("NAME=RUN|DIR"),
    ] = ()
    runs: RunsFolder = "runs"
    start_adapter: Annotated[
        str | None, Field(description="a PEFT folder that the deployed model carries"), Option("DIR")
    ] = None
    watch: Annotated[bool, Field(description="put the prompts to the model auto through the stream detector")] = False
    adapt: Annotated[
        bool, Field(description="watch, and run the adaptation graph on what an alarm shows to be new")
    ] = False
    reference: Annotated[
        tuple[str, ...], Field(description="tasks expected"), Option("TASK", default="all registered ones")
    ] = ()
    registry: Registry = None
    run_length: RunLength = 1000
    window: Window = 64
    out: Annotated[Path, Field(description="folder of this server's state"), Option("DIR")] = Path("runs/serve")
    seed: Seed = 0
    upstream: Annotated[
        str | None,
        Field(pattern=r"^https?://[^@]*$", description="stand before this OpenAI-compatible server, and load no model"),
        Option("URL"),
    ] = None
    upstream_model: Annotated[
        str | None, Field(min_length=1, max_length=256, description="the base model's name there"), Option("NAME")
    ] = None
    queue: Annotated[int, Field(ge=1, le=10_000, description="answers that may wait for their turn"), Option("N")] = 256
    batch: Annotated[int, Field(ge=1, le=256, description="answers written side by side"), Option("N")] = 16
    max_tokens: Annotated[int, Field(ge=1, le=32_768, description="of one answer, at most"), Option("N")] = 1024
    max_body: Annotated[
        int, Field(ge=1024, le=2**28, description="bytes of one request's body, at most"), Option("N")
    ] = 1_000_000
    timeout_s: Annotated[
        float,
        Field(
            gt=0,
            le=3600,
            description="seconds for a head and for a body to arrive, and for the upstream server to go on",
        ),
    ] = 60.0
    drain_s: Annotated[
        float, Field(ge=0, le=3600, description="seconds that requests under way are given at the end"), Option("S")
    ] = 30.0

    @field_validator("adopted")
    @classmethod
    def _each_has_its_own_name(cls, adopted: tuple[str, ...]) -> tuple[str, ...]:
        names = [one.partition("=")[0] for one in adopted]
        taken = [name for name in names if name in RESERVED or names.count(name) > 1]
        if taken:
            raise ValueError(f"{taken[0]!r} is taken; give each model a name of its own")
        return adopted

    @model_validator(mode="after")
    def _holds_together(self) -> "ServeOptions":
        if self.upstream and not self.upstream_model:
            raise ValueError("upstream needs upstream_model, the name of the base model there")
        return self

    @property
    def watching(self) -> bool:
        """Whether prompts go through the stream detector."""
        return self.watch or self.adapt


BASE, AUTO = "base", "auto"
RESERVED = (BASE, AUTO)
"""The base model, and whichever model is current."""


class Place(Record):
    """Where an adopted model lies.

    Attributes:
        name: of the route.
        folder: a run's, or an exported one.
    """

    name: str
    folder: Path
