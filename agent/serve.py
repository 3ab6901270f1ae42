"""Serve the base model, and what runs adopted, by OpenAI's API: ``python -m agent.serve``."""

import argparse
import sys

from agent.config import settings_of
from agent.server.settings import ServeOptions
from cao.command_line import run_main
from cao.machine.extras import need
from cao.options import SET, add_common, add_options, command_parser

EPILOG = """Models: base is the base model, NAME what --adopted names, auto whichever is current: with --watch or
--adapt what was adopted for the prompts that come at present, else base. Requests name one. POST /v1/feedback takes
{"id": RESPONSE, "correct": true|false} or {"id": RESPONSE, "answer": …}. Where the environment has CAO_SERVE_KEY,
requests must bear it. SIGTERM and Ctrl-C take no more requests, answer those under way and end. Exit status: 0 ended
so; 2 bad input or configuration; 3 something needed is not available, or the address is taken; 130 interrupted before
it served; 1 a defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    it = command_parser("agent.serve", __doc__, EPILOG)
    add_options(it, ServeOptions)
    add_common(it, config=True, settable=SET)
    return it


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def body(parsed: argparse.Namespace) -> int:
        options = settings_of(ServeOptions, parsed, "serve")
        need("serve")
        from agent.server.running import serve  # noqa: PLC0415  (torch, and packages of an extra)

        return serve(options, parsed.config, as_json=parsed.json)

    return run_main(parser(), body, arguments)


if __name__ == "__main__":
    sys.exit(main())
