"""What ``python -m eval.tables`` takes; nothing here computes."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cao.configuration import Device, Dtype, ModelPath, Offline, Workers
from cao.options import Option
from cao.types import Record


class TablesOptions(Record):
    """What the command takes."""

    table: Annotated[Literal["drift", "generation", "policies"], Field(description="what is measured")]
    consolidation: Annotated[
        Path | None, Field(description="generation: a folder of python -m agent.consolidate"), Option("DIR")
    ] = None
    training: Annotated[
        tuple[Path, ...],
        Field(description="policies: a folder of python -m agent.train_policy, or two, the one to judge last"),
        Option("DIR"),
    ] = ()
    windows: Annotated[int, Field(ge=1, description="drift: windows of a cell"), Option("N")] = 2000
    seed: Annotated[int, Field(ge=0, description="drift: of the draws"), Option("S")] = 0
    only: Annotated[
        tuple[str, ...],
        Field(description="drift: measure these again, keep the rest of the page"),
        Option("NAME,...", commas=True),
    ] = ()
    tasks: Annotated[
        tuple[str, ...] | None,
        Field(description="what is measured on"),
        Option("NAME,...", commas=True, default="generation: six in-domain, six unseen; policies: all"),
    ] = None
    split: Annotated[Literal["reward", "test"], Field(description="generation: part of a task")] = "test"
    limit: Annotated[int, Field(ge=1, description="questions of a task, at most"), Option("N")] = 200
    seeds: Annotated[tuple[int, ...], Field(description="choices of support prompts"), Option("S,...", commas=True)] = (
        0,
        1,
        2,
    )
    full_cost: Annotated[bool, Field(description="time a whole training for the cost, not its first steps")] = False
    out: Annotated[
        Path | None,
        Field(description="folder of the page"),
        Option("DIR", default="report/ in the consolidation's or training's folder, or here"),
    ] = None
    workers: Workers = 1
    model_path: ModelPath = None
    device: Device = "cpu"
    dtype: Dtype = "auto"
    offline: Offline = False
