"""``python -m agent.export RUN --to DIR``: write what a run adopted as a folder that serves."""

import argparse
import json
import sys

from agent.handover.options import ExportOptions
from cao.command_line import run_main
from cao.configuration import read_settings
from cao.options import add_common, add_options, command_parser

EPILOG = """DIR holds the adapter in PEFT format, README.md (the model card) and cao.json: how answers are read and
how several adapters answer together. Exit status: 0 written; 2 bad input; 3 something needed is not available; 1 a
defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("agent.export", __doc__, EPILOG)
    add_options(p, ExportOptions)
    add_common(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def body(arguments: argparse.Namespace) -> int:
        options = read_settings(ExportOptions, arguments, "export", settable=False)
        from agent.handover.export import export  # noqa: PLC0415  (torch; arguments come first)

        written = export(options)
        if arguments.json:
            sys.stdout.write(json.dumps(written) + "\n")
        else:
            sys.stdout.write(f"{written['folder']} holds the {written['what']} model of run {written['run_id']}\n")
        return 0

    return run_main(parser(), body, argv)


if __name__ == "__main__":
    sys.exit(main())
