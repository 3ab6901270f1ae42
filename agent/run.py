"""``python -m agent.run --task gsm8k``: adapt the language model to a task, and say whether it helped.

Only the arguments are handled here; ``agent.loop.request`` checks what they ask for, and the work begins in
``agent.session`` after that, so that ``--help``, a mistake and ``--dry-run`` are answered at once.
"""

import argparse
import sys
import time

from agent.config import OPTIONS, RunConfig, named_sources
from cao.command_line import run_main
from cao.options import add_common, add_options, command_parser, given

EPILOG = """exit status: 0 finished, improved or not (it says which); 2 bad input or configuration; 3 something needed
is not available (with the command that provides it); 130 interrupted (go on with --resume); 1 a defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("agent.run", __doc__, EPILOG)
    add_options(p, RunConfig, OPTIONS, required=False)
    p.add_argument("--resume", metavar="RUN_ID", help="go on with an interrupted run")
    p.add_argument("--dry-run", action="store_true", help="print the plan and its estimated cost, compute nothing")
    add_common(p, config=True, settable="any configuration key")
    return p


def options(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the configuration keys that the command line gave explicitly."""
    keys = given(arguments, RunConfig)
    reference = keys.get("reference")
    return keys | ({"reference": named_sources(reference)} if isinstance(reference, list) else {})


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    began = time.monotonic()

    def body(arguments: argparse.Namespace) -> int:
        from agent.loop.request import check_remote, show_plan, understand  # noqa: PLC0415  (arguments come first)

        asked = understand(
            options(arguments), file=arguments.config, assignments=arguments.assignments, resume=arguments.resume
        )
        if arguments.dry_run:
            show_plan(asked, as_json=arguments.json)
            return 0
        check_remote(asked.config)
        from agent import session  # noqa: PLC0415  (seconds to import; mistakes are reported first)

        return session.command(asked, as_json=arguments.json, began=began)

    return run_main(parser(), body, argv)


if __name__ == "__main__":
    sys.exit(main())
