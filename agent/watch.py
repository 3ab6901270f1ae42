"""Watch a stream of prompts for drift: ``python -m agent.watch --stream FILE|-`` reads them as they come."""

import argparse
import sys
from pathlib import Path

from agent.config import settings_of
from agent.stream.options import WatchOptions
from agent.stream.source import source_of
from cao.command_line import run_main
from cao.options import SET, add_common, add_options, command_parser

INTERRUPTED = 130
"""Exit status also where nobody reads the events any more: the watch can go on."""

_EPILOG = """A line of the stream is a text, or an object with prompt, question, content or messages (a chat: the
user's last message and what was said before), and perhaps context, choices, answer and correct. Lines that cannot be
read are counted, and the first for each reason is shown. A file that is rotated is read to its end, then what took its
place; one that is cut is read from its beginning. An alarm is raised at most once in --run-length prompts, on average,
while nothing drifts. The prompts behind an alarm are collected and named; from then on the tasks that they come from
are expected. Everything is written to --out: events.jsonl, state.json, new references, deployed.json. Stopped in any
way, the same command goes on; behind a pipe only if the same pipe continues: what was read of it is kept, and a pipe
that begins anew counts as more of the stream. Exit status: 0 the stream ended; 2 bad input, or no line of it could be
read; 3 something needed is not installed; 130 interrupted, or nobody reads the events, resumable."""


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    it = command_parser("agent.watch", __doc__, _EPILOG)
    add_options(it, WatchOptions)
    add_common(it, config=True, settable=SET)
    return it


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_main(
        parser(),
        lambda parsed: _watch(settings_of(WatchOptions, parsed, "watch"), parsed.config, as_json=parsed.json),
        arguments,
        unread=INTERRUPTED,
    )


def _watch(options: WatchOptions, file: Path | None, *, as_json: bool) -> int:
    source = source_of(options)

    from agent.stream.command import watch  # noqa: PLC0415  (torch; a missing stream is reported first)

    return watch(options, source, file, as_json=as_json)


if __name__ == "__main__":
    sys.exit(main())
