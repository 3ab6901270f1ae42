"""What ``python -m agent.watch`` takes; nothing here computes."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from cao.configuration import Device, Offline, Registry
from cao.options import Option
from cao.types import Record

MAX_WINDOW = 8192
"""Prompts collected behind an alarm at most; the state that is written after every batch holds them."""

MIN_WINDOW = 8
"""Fewer prompts get no verdict."""

RunLength = Annotated[int, Field(ge=1, description="prompts without drift to a false alarm, on average"), Option("N")]
Window = Annotated[
    int, Field(ge=MIN_WINDOW, le=MAX_WINDOW, description="prompts collected after an alarm"), Option("N")
]


class WatchOptions(Record):
    """What the command takes."""

    stream: Annotated[str, Field(description="the prompts, a line each; - reads standard input"), Option("FILE|-")]
    reference: Annotated[
        tuple[str, ...], Field(description="tasks expected"), Option("TASK", default="all registered ones")
    ] = ()
    registry: Registry = None
    adapt: Annotated[bool, Field(description="adapt to a new task by the graph, and swap the accepted adapter in")] = (
        False
    )
    run_length: RunLength = 1000
    window: Window = 64
    out: Annotated[Path, Field(description="folder of this watch"), Option("DIR")] = Path("runs/watch")
    follow: Annotated[bool, Field(description="at the end of the file, wait for more")] = False
    seed: Annotated[int, Field(ge=0, description="of the smoothing and the permutations"), Option("N")] = 0
    device: Device = "cpu"
    offline: Offline = False
