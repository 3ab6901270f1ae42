"""What each benchmark takes; nothing here computes."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cao.configuration import Dtype, Machine
from cao.options import Option
from cao.types import Record
from eval.bench.ways import WAYS

Repetitions = Annotated[int, Field(ge=1, description="of each side"), Option("N")]
Write = Annotated[bool, Field(description="put the figures into docs/results/benchmarks.md")]
TaskName = Annotated[str, Field(description="where questions come from"), Option("NAME")]
Limit = Annotated[int, Field(ge=1, description="questions or prompts, at most"), Option("N")]


class RunBench(Record):
    """``run``."""

    repetitions: Repetitions = 1
    write: Write = False
    compare: Annotated[
        tuple[str, ...], Field(description=f"by turns with: {', '.join(WAYS)}"), Option("WAY,...", commas=True)
    ] = ()
    arguments: Annotated[
        tuple[str, ...],
        Field(description="arguments for agent.run after --"),
        Option(positional=True, default="--task gsm8k"),
    ] = ()


class ProcessorBench(Record):
    """``processor``."""

    repetitions: Repetitions = 5
    write: Write = False


class ModelBench(Machine):
    """What the benchmarks of a model share."""

    repetitions: Repetitions = 5
    write: Write = False


class ScoringBench(ModelBench):
    """``scoring``."""

    tasks: Annotated[
        tuple[str, ...],
        Field(description="whose questions"),
        Option("NAME,...", commas=True, default="the six in-domain tasks"),
    ] = ()
    batch: Annotated[int, Field(ge=1, description="the harness's batch"), Option("N")] = 16
    limit: Limit = 48


class ParityBench(Machine):
    """``parity``; ``auto`` is float32 here, because rounding in bfloat16 decides near ties by itself."""

    tasks: Annotated[
        tuple[str, ...],
        Field(description="whose questions"),
        Option("NAME,...", commas=True, default="the six in-domain tasks"),
    ] = ()
    batch: Annotated[int, Field(ge=1, description="the harness's batch"), Option("N")] = 16
    limit: Limit = 48
    write: Write = False


class LatentBench(ModelBench):
    """``latent``."""

    task: TaskName = "arc_easy"
    limit: Limit = 16


class TrainingBench(ModelBench):
    """``training``."""

    task: TaskName = "arc_easy"
    limit: Limit = 64
    batch: Annotated[int, Field(ge=1, description="rows a step"), Option("N")] = 8


class AdapterBench(ModelBench):
    """``adapter``; the task is none that the shipped generators learnt, so that an aligner goes with them."""

    task: TaskName = "social_iqa"
    limit: Limit = 32


class GrowthBench(ModelBench):
    """``growth``."""

    task: TaskName = "arc_easy"
    limit: Limit = 64


class SizeBench(Record):
    """``size``."""

    model: Annotated[Literal["qwen2.5-0.5b", "qwen2.5-1.5b"], Field(description="whose sizes")] = "qwen2.5-0.5b"
    parts: Annotated[
        tuple[str, ...], Field(description="which, with what they need"), Option("PART,...", commas=True, default="all")
    ] = ()
    questions: Annotated[int, Field(ge=1, description="that are asked"), Option("N")] = 8
    dtype: Dtype = "auto"
    memory: Annotated[
        float | None, Field(gt=0, description="do no part that takes more"), Option("GB", default="what is free")
    ] = None
    folder: Annotated[
        Path | None,
        Field(description="keeps the weights and what is trained"),
        Option("DIR", default="a temporary one"),
    ] = None
    repetitions: Repetitions = 1
    write: Write = False


class ServingBench(Machine):
    """``serving``; its figures stand in the guide on serving."""

    repetitions: Annotated[int, Field(ge=2, description="turns of each side"), Option("N")] = 5
    clients: Annotated[int, Field(ge=1, le=256, description="that ask side by side"), Option("N")] = 64
    requests: Annotated[int, Field(ge=8, le=4096, description="of a turn"), Option("N")] = 128


class EngineBench(ModelBench):
    """``engine``."""

    task: TaskName = "arc_easy"
    limit: Limit = 80
    kind: Annotated[Literal["local", "ray"], Field(description="processes here, or Ray")] = "local"
    cells: Annotated[int, Field(ge=1, description="independent cells"), Option("N")] = 4
