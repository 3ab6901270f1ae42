"""Stages 1 and 2 alone: ``python -m agent.generate --prompts FILE.jsonl --out DIR`` makes an adapter from prompts.

One forward pass makes it, a second one aligns it; without ``--strategy`` nothing is trained and no gradient is taken.
"""

import argparse
import sys

from agent.config import settings_of
from agent.stages.adapter_folder import check_out
from agent.stages.options import GenerateOptions
from agent.stages.prompts import read_prompts
from cao.command_line import run_main
from cao.model.profiles import check_model
from cao.options import SET, add_common, add_options, command_parser

_EPILOG = """Each line of the prompts file is a text, an object with 'prompt', 'question', 'content' or 'messages' (and
perhaps 'context'), or a JSON list of these; a table, or another file that agent.run reads, is prompts too. DIR becomes
a folder in PEFT format. Exit status: 0 made; 2 bad input; 3 something needed is not available (with the command that
provides it); 1 a defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    it = command_parser("agent.generate", __doc__, _EPILOG)
    add_options(it, GenerateOptions)
    add_common(it, config=True, settable=SET)
    return it


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_main(
        parser(), lambda parsed: _make(settings_of(GenerateOptions, parsed, "generate"), as_json=parsed.json), arguments
    )


def _make(options: GenerateOptions, *, as_json: bool) -> int:
    check_model(options.model)
    check_out(options.out, overwrite=options.overwrite)
    prompts = read_prompts(options.prompts)

    from agent.stages.generate import make  # noqa: PLC0415  (torch; bad input is reported first)

    return make(options, prompts, as_json=as_json)


if __name__ == "__main__":
    sys.exit(main())
