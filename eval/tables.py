"""``python -m eval.tables --table drift|generation|policies``: measure a claim and write its page."""

import argparse
import json
import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from cao.command_line import run_main
from cao.errors import InputError
from cao.options import SET, add_common, add_options, command_parser
from cao.types import Record
from eval.options import TablesOptions

if TYPE_CHECKING:
    from agent.train.engine.settings import EngineSettings

EPILOG = """drift: false alarms, power, kinds, naming, streams and speed of the drift sense; half an hour on two cores.
generation: what generated and aligned adapters gain over the base model and over controls that share the
form of an answer, how alike adapters are within and between tasks, and what one costs. policies: what the trained
policy's proposals come to beside random and fixed ones, an untrained model's, a bandit's and the best of an exhaustive
grid. The last two may be stopped at any time: what is scored is kept beside the folder that they are given, and the
same command goes on. Exit status: 0 written; 2 bad input or configuration; 3 something needed is not available (with
the command that provides it); 130 interrupted; 1 a defect.
"""


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
    measure = {"drift": _drift, "generation": _generation, "policies": _policies}[options.table]
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
    path = out / "drift.json"
    before = read_json(path, dict[str, object]) if asked.only and path.exists() else {}
    with closing(make_view()) as view:
        result = measure(command, asked.windows, asked.seed, view.progress, asked.only, before)
    return result, write_page(result, out)


def _generation(asked: TablesOptions, engine: "EngineSettings", command: str) -> tuple[Record, Path]:
    folder = asked.folder  # asked for before anything is imported that takes seconds

    from agent.record.terminal import make_view  # noqa: PLC0415  (imports torch; arguments come first)
    from eval.generation.measure import measure  # noqa: PLC0415
    from eval.generation.page import write_page  # noqa: PLC0415

    with closing(make_view()) as view:
        result = measure(asked, engine, command, view.progress)
    return result, write_page(result, asked.out or folder / "report")


def _policies(asked: TablesOptions, engine: "EngineSettings", command: str) -> tuple[Record, Path]:
    if not asked.training:
        raise InputError("--table policies needs --training DIR, a folder of python -m agent.train_policy")

    from agent.record.terminal import make_view  # noqa: PLC0415  (imports torch; arguments come first)
    from eval.policies.measure import measure  # noqa: PLC0415
    from eval.policies.page import write_page  # noqa: PLC0415

    with closing(make_view()) as view:
        result = measure(asked, engine, command, view.progress)
    return result, write_page(result, asked.out or asked.training[-1] / "report")


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    command = f"python -m eval.tables {shlex.join(sys.argv[1:] if argv is None else argv)}"
    return run_main(parser(), lambda arguments: _measure(arguments, command), argv)


if __name__ == "__main__":
    sys.exit(main())
