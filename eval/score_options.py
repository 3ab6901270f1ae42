"""What ``python -m eval.score`` takes; nothing here computes."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cao.configuration import Machine
from cao.options import Option
from cao.types import AnswerProtocol


class ScoreOptions(Machine):
    """What the command takes."""

    task: Annotated[str, Field(description="a known task, or your own questions"), Option("NAME|FILE.jsonl")]
    adapter: Annotated[Path | None, Field(description="a LoRA adapter in PEFT format"), Option("DIR")] = None
    protocol: Annotated[
        AnswerProtocol | None,
        Field(description="how answers are judged"),
        Option(default="likelihood where there are choices"),
    ] = None
    split: Annotated[
        Literal["reward", "test", "all"] | None,
        Field(description="which part"),
        Option(default="test; all for your own file"),
    ] = None
    limit: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="a seeded sample of N questions"),
        Option("N", default="all"),
    ] = None
    seed: Annotated[int, Field(description="of that sample"), Option("S")] = 0
    server: Annotated[
        str | None,
        Field(description="generate: let an OpenAI-compatible server write, http://127.0.0.1:8000/v1 say"),
        Option("URL"),
    ] = None
    server_model: Annotated[
        str | None, Field(description="the name that the server knows the model by"), Option("NAME", default="--model")
    ] = None
    server_batch: Annotated[int, Field(ge=1, description="prompts of one request"), Option("N")] = 8
    server_concurrency: Annotated[int, Field(ge=1, description="requests at a time"), Option("N")] = 4
