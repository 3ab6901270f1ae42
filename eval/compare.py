"""``python -m eval.compare A B``: judge two sets of answers by paired tests on the questions that both answered."""

import argparse
import sys

from cao.command_line import run_main
from cao.options import SET, add_common, add_options, command_parser
from eval.options import CompareOptions
from eval.settings import settings_of

EPILOG = """A and B are each a run's folder (or its id, below --out), a file below its items/, an output of eval.score
--json, a row of a table of eval.tables (table2.json:base), or a sample log of lm-evaluation-harness (samples_*.jsonl).
Questions are matched by id, or by text and choices.
Changes are B minus A: accuracy with exact McNemar test (of several seeds: bootstrap) and bootstrap interval, and the
choices' log-loss, each side at its own temperature, where both have scores. Exit status: 0 judged, whatever came of it;
2 bad input, or no question in common; 130 interrupted; 1 a defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("eval.compare", __doc__, EPILOG)
    add_options(p, CompareOptions)
    add_common(p, settable=SET)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def body(arguments: argparse.Namespace) -> int:
        options = settings_of(CompareOptions, arguments, "compare")

        from eval.compare_command import compare  # noqa: PLC0415  (torch; arguments come first)

        return compare(options, as_json=arguments.json)

    return run_main(parser(), body, argv)


if __name__ == "__main__":
    sys.exit(main())
