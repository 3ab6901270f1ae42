"""``python -m agent.verify DIR [--server URL]``: prove that an adapter acts, here or on a server."""

import argparse
import json
import sys

from agent.handover.options import VerifyOptions
from cao.command_line import run_main
from cao.configuration import read_settings
from cao.errors import InputError
from cao.options import add_common, add_options, command_parser

EPILOG = """A few prompts are answered with the adapter and without it; on a server by the names of both. Exit status:
0 it acts; 2 it does not (the base model is what is served), or bad input; 3 the model or the server is not available;
1 a defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("agent.verify", __doc__, EPILOG)
    add_options(p, VerifyOptions)
    add_common(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def body(arguments: argparse.Namespace) -> int:
        options = read_settings(VerifyOptions, arguments, "verify", settable=False)
        from agent.handover.verify import verify  # noqa: PLC0415  (torch; arguments come first)

        verdict = verify(options)
        if arguments.json:
            sys.stdout.write(json.dumps(verdict.model_dump(mode="json")) + "\n")
        if not verdict.acts:
            raise InputError(f"{options.folder}: does not act ({verdict.where}): {verdict.reason}")
        if not arguments.json:
            sys.stdout.write(f"{options.folder}: acts ({verdict.where}): {verdict.reason}\n")
        return 0

    return run_main(parser(), body, argv)


if __name__ == "__main__":
    sys.exit(main())
