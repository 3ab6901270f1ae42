"""``python -m agent.ui``: a page on this machine over all runs: sort, filter, compare two, open a report."""

import argparse
import sys
from pathlib import Path

from agent.local_page.options import UiOptions
from cao.command_line import quiet_libraries, run_main
from cao.configuration import read_settings
from cao.options import add_common, add_options, command_parser


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("agent.ui", __doc__)
    add_options(p, UiOptions, tuple(UiOptions.model_fields))
    add_common(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def body(arguments: argparse.Namespace) -> int:
        settings = read_settings(UiOptions, arguments, "ui", settable=False)
        quiet_libraries(offline=True)
        from agent.local_page.server import serve  # noqa: PLC0415  (after the arguments are understood)

        return serve(Path(settings.out), settings.port, as_json=arguments.json)

    return run_main(parser(), body, argv)


if __name__ == "__main__":
    sys.exit(main())
