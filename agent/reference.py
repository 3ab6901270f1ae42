"""The registry of known tasks: ``python -m agent.reference add NAME FILE.jsonl`` adds one's own, ``list`` shows all."""

import argparse
import sys

from agent.config import settings_of
from agent.stages.options import AddOptions, ListOptions, NameOptions
from cao.command_line import run_main
from cao.options import SET, add_common, add_options, command_parser
from cao.types import Record

_EPILOG = """A reference is a sample of at most 512 prompts of one task, as embeddings; drift is judged against all of
them. Exit status: 0 done, 2 bad input, 3 something needed is not installed."""

_VERBS: dict[str, tuple[str, type[Record]]] = {
    "add": ("encode prompts and register them under a name", AddOptions),
    "list": ("list the known tasks", ListOptions),
    "show": ("say what one reference holds", NameOptions),
    "remove": ("forget a reference of one's own", NameOptions),
}
"""Verb → what it does, and what it takes."""


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    it = command_parser("agent.reference", __doc__, _EPILOG)
    verbs = it.add_subparsers(dest="verb", required=True)
    for name, (text, settings) in _VERBS.items():
        verb = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        add_options(verb, settings)
        add_common(verb, settable=SET)
    return it


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def body(parsed: argparse.Namespace) -> int:
        options = settings_of(_VERBS[parsed.verb][1], parsed, "reference")

        from agent.stages.reference import obey  # noqa: PLC0415  (torch; arguments come first)

        return obey(parsed.verb, options, as_json=parsed.json)

    return run_main(parser(), body, arguments)


if __name__ == "__main__":
    sys.exit(main())
