"""The options of ``python -m agent.ui``."""

from typing import Annotated

from pydantic import Field

from cao.configuration import RunsFolder
from cao.options import Option
from cao.types import Record


class UiOptions(Record):
    """Which runs are shown, and where."""

    out: RunsFolder = "runs"
    port: Annotated[
        int, Field(ge=0, le=65_535, description="of this machine; 0 takes a free one"), Option("N", default="8010")
    ] = 8010
