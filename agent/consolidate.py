"""``python -m agent.consolidate --model smollm2-135m``: train stages 1 and 2 for a base model.

It may be stopped at any time; the same command goes on where it was. With ``--install`` the result is found by
``python -m agent.run`` without a flag. The model is a known one, its folder, a GGUF file or a hub id.
"""

import argparse
import sys

from agent.config import settings_of
from agent.train.engine.settings import read_engine
from agent.train.generator.options import OPTIONS, ConsolidateOptions
from cao.command_line import run_main
from cao.options import add_common, add_options, command_parser

EPILOG = """The same command goes on with a folder that is half finished; other settings in its place are refused. Exit
status: 0 finished; 2 bad input or configuration; 3 something needed is not available (with the command that provides
it); 130 interrupted (the same command goes on); 1 a defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("agent.consolidate", __doc__, EPILOG)
    add_options(p, ConsolidateOptions, OPTIONS)
    p.add_argument("--dry-run", action="store_true", help="print the plan in hours and memory, compute nothing")
    values = 'a preset\'s value, such as generator.steps=100 or sources=["arc_easy","boolq"]; or any of these settings'
    add_common(p, config=True, settable=values)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_main(parser(), _consolidate, argv)


def _consolidate(arguments: argparse.Namespace) -> int:
    options, engine = settings_of(ConsolidateOptions, arguments, "consolidate"), read_engine(arguments.config)

    from agent.train.generator.command import run_options  # noqa: PLC0415  (seconds to import; mistakes are reported first)

    return run_options(options, engine, as_json=arguments.json, dry_run=arguments.dry_run)


if __name__ == "__main__":
    sys.exit(main())
