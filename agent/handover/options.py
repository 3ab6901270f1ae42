"""What ``export``, ``verify`` and the library's ``load`` take; nothing here computes."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cao.configuration import Machine, Offline, RunsFolder
from cao.options import Option
from cao.types import Record


class ExportOptions(Record):
    """What ``export`` takes."""

    run: Annotated[
        str, Field(description="the run's id, the beginning of it, or its folder"), Option("RUN", positional=True)
    ]
    to: Annotated[Path, Field(description="a new or an empty folder"), Option("DIR")]
    out: RunsFolder = "runs"
    what: Annotated[
        Literal["adopted", "generated", "aligned"],
        Field(description="adopted: what the run accepted; the others: an adapter that it made, accepted or not"),
    ] = "adopted"
    merge: Annotated[bool, Field(description="write the model's weights with the adapter merged, too")] = False
    gguf: Annotated[bool, Field(description="write the adapter as adapter.gguf for llama.cpp, too")] = False
    offline: Offline = False


class VerifyOptions(Record):
    """What ``verify`` takes."""

    folder: Annotated[Path, Field(description="an adapter in PEFT format"), Option("DIR", positional=True)]
    base: Annotated[
        str | None,
        Field(description="the base model: a folder or a hub id; with --server the name it is served by"),
        Option("NAME", default="what DIR names"),
    ] = None
    prompts: Annotated[
        Path | None,
        Field(description="prompts to ask, as agent.generate reads them"),
        Option("FILE", default="six of its own"),
    ] = None
    server: Annotated[
        str | None, Field(description="an OpenAI-compatible server, http://127.0.0.1:8000/v1 say"), Option("URL")
    ] = None
    adapter: Annotated[
        str | None, Field(description="the name by which the server serves the adapter"), Option("NAME")
    ] = None
    offline: Offline = False


class LoadOptions(Machine):
    """What ``load`` takes; the base model is the one that the folder names, unless it is given."""

    folder: Annotated[
        Path, Field(description="a run's folder, or one that export wrote"), Option("DIR", positional=True)
    ]
    start_adapter: Annotated[
        str | None, Field(description="the PEFT folder that the deployed model carried, where the folder is exported")
    ] = None
