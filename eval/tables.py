"""``python -m eval.tables --table drift|generation|policies|acceptance``: measure a claim and write its page."""

import argparse
import json
import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from cao.command_line import run_main
from cao.configuration import Device, Dtype, ModelPath, Offline, Workers
from cao.errors import InputError
from cao.options import SET, Option, add_common, add_options, command_parser
from cao.types import Record

if TYPE_CHECKING:
    from agent.train.engine.settings import EngineSettings

EPILOG = """drift: false alarms, power, kinds, naming, streams and speed of the drift sense; half an hour on two cores.
generation: what generated and aligned adapters gain over the base model and over controls that share the
form of an answer, how alike adapters are within and between tasks, and what one costs. policies: what the trained
policy's proposals come to beside random and fixed ones, an untrained model's, a bandit's and the best of an exhaustive
grid. These two may be stopped at any time: what is scored is kept beside the folder that they are given, and the
same command goes on. acceptance: how often the rules of acceptance take simulated candidates that are no better; a
minute. Exit status: 0 written; 2 bad input or configuration; 3 something needed is not available (with
the command that provides it); 130 interrupted; 1 a defect.
"""


class TablesOptions(Record):
    """What the command takes."""

    table: Annotated[Literal["drift", "generation", "policies", "acceptance"], Field(description="what is measured")]
    consolidation: Annotated[
        Path | None, Field(description="generation: a folder of python -m agent.consolidate"), Option("DIR")
    ] = None
    training: Annotated[
        tuple[Path, ...],
        Field(description="policies: a folder of python -m agent.train_policy, or two, the one to judge last"),
        Option("DIR"),
    ] = ()
    windows: Annotated[int, Field(ge=1, description="drift: windows of a cell"), Option("N")] = 2000
    seed: Annotated[int, Field(ge=0, description="drift, acceptance: of the draws"), Option("S")] = 0
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


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("eval.tables", __doc__, EPILOG)
    add_options(p, TablesOptions)
    add_common(p, config=True, settable=SET)
    return p


def _measure(arguments: argparse.Namespace, command: str) -> int:
    from agent.config import settings_of  # noqa: PLC0415  (after the check that no other package hides ours)
    from agent.train.engine.settings import read_engine  # noqa: PLC0415

    options, engine = settings_of(TablesOptions, arguments, "tables"), read_engine(arguments.config)
    measure = {"drift": _drift, "generation": _generation, "policies": _policies, "acceptance": _acceptance}[
        options.table
    ]
    result, page = measure(options, engine, command)
    figures = json.dumps(result.model_dump(mode="json"))
    sys.stdout.write(f"{figures}\n" if arguments.json else f"{page.read_text(encoding='utf-8')}\n{page}\n")
    return 0


def _drift(asked: TablesOptions, engine: "EngineSettings", command: str) -> tuple[Record, Path]:
    from agent.record.terminal import make_view  # noqa: PLC0415  (imports torch; arguments come first)
    from agent.train.files import read_json  # noqa: PLC0415
    from eval.drift.measure import measure  # noqa: PLC0415
    from eval.drift.page import write_page  # noqa: PLC0415

    out = asked.out or Path()
    before = read_json(out / "drift.json") if asked.only and (out / "drift.json").exists() else {}
    with closing(make_view()) as view:
        result = measure(command, asked.windows, asked.seed, view.progress, asked.only, before)
    return result, write_page(result, out)


def _generation(asked: TablesOptions, engine: "EngineSettings", command: str) -> tuple[Record, Path]:
    if asked.consolidation is None:
        raise InputError("--table generation needs --consolidation DIR, a folder of python -m agent.consolidate")

    from agent.record.terminal import make_view  # noqa: PLC0415  (imports torch; arguments come first)
    from eval.generation.measure import Options, measure  # noqa: PLC0415
    from eval.generation.page import write_page  # noqa: PLC0415
    from eval.generation.recipes import REPORTED  # noqa: PLC0415

    options = Options(
        folder=asked.consolidation,
        tasks=asked.tasks or REPORTED,
        split=asked.split,
        limit=asked.limit,
        seeds=asked.seeds,
        device=asked.device,
        dtype=asked.dtype,
        offline=asked.offline,
        model_path=asked.model_path,
        full_cost=asked.full_cost,
        workers=asked.workers,
        engine=engine,
    )
    with closing(make_view()) as view:
        result = measure(options, command, view.progress)
    return result, write_page(result, asked.out or asked.consolidation / "report")


def _policies(asked: TablesOptions, engine: "EngineSettings", command: str) -> tuple[Record, Path]:
    if not asked.training:
        raise InputError("--table policies needs --training DIR, a folder of python -m agent.train_policy")

    from agent.record.terminal import make_view  # noqa: PLC0415  (imports torch; arguments come first)
    from eval.policies.measure import Options, measure  # noqa: PLC0415
    from eval.policies.page import write_page  # noqa: PLC0415

    options = Options(
        folders=asked.training,
        tasks=asked.tasks,
        seeds=asked.seeds,
        limit=asked.limit,
        workers=asked.workers,
        engine=engine,
        device=asked.device,
        dtype=asked.dtype,
        offline=asked.offline,
        model_path=asked.model_path,
    )
    with closing(make_view()) as view:
        result = measure(options, command, view.progress)
    return result, write_page(result, asked.out or asked.training[-1] / "report")


def _acceptance(asked: TablesOptions, engine: "EngineSettings", command: str) -> tuple[Record, Path]:
    from agent.record.terminal import make_view  # noqa: PLC0415  (imports torch; arguments come first)
    from eval.policies.acceptance import measure, write_page  # noqa: PLC0415

    with closing(make_view()) as view:
        result = measure(command, asked.seed, progress=view.progress)
    return result, write_page(result, asked.out or Path())


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    command = f"python -m eval.tables {shlex.join(sys.argv[1:] if argv is None else argv)}"
    return run_main(parser(), lambda arguments: _measure(arguments, command), argv)


if __name__ == "__main__":
    sys.exit(main())
