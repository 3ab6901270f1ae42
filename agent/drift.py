"""The drift sense alone: ``python -m agent.drift --windows FILE`` reports on windows of prompts."""

import argparse
import sys

from agent.config import settings_of
from agent.stages.options import DriftOptions
from cao.command_line import run_main
from cao.options import SET, add_common, add_options, command_parser
from cao.tasks.prompt_file import read_windows

_EPILOG = """Each window gets a report of one line. A prompt is a text, or an object with prompt, question, content or
messages (a chat: the user's last message and what was said before it), perhaps context, choices and answer, and
perhaps correct (whether the deployed model's answer was right). Drift means that every current task is rejected by
permutation tests on the frozen encoder's embeddings. Exit status: 0 reported, 2 bad input, 3 something needed is not
installed."""


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    it = command_parser("agent.drift", __doc__, _EPILOG)
    add_options(it, DriftOptions)
    add_common(it, config=True, settable=SET)
    return it


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_main(
        parser(), lambda parsed: _report(settings_of(DriftOptions, parsed, "drift"), as_json=parsed.json), arguments
    )


def _report(options: DriftOptions, *, as_json: bool) -> int:
    windows = read_windows(options.windows, options.window)

    from agent.stages.drift import report  # noqa: PLC0415  (torch; bad input is reported first)

    return report(options, windows, as_json=as_json)


if __name__ == "__main__":
    sys.exit(main())
