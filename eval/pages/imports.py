"""``python -m eval.pages.imports``: draw which package imports which, before the house was built and as it stands.

The trees are read from git, so the command works in a clone. Rows are layers. An arrow that points down keeps the
order; one that points up is drawn red. The order is that of the import contracts in ``pyproject.toml`` where they
speak of both ends, and else the one with the fewest red arrows.
"""

import argparse
import sys
from pathlib import Path

from cao.command_line import run_command

BEFORE = "a48f70d"
"""The last commit of the flat layout."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = argparse.ArgumentParser(prog="python -m eval.pages.imports", description=(__doc__ or "").split("``: ")[-1])
    p.add_argument("--before", metavar="COMMIT", default=BEFORE, help="the first picture (default %(default)s)")
    p.add_argument("--after", metavar="COMMIT", default="HEAD", help="the second picture (default %(default)s)")
    p.add_argument("--out", metavar="DIR", type=Path, default=Path("docs/explanation"), help="(default %(default)s)")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = parser().parse_args(argv)

    def body() -> int:
        from eval.pages.import_picture import draw_both  # noqa: PLC0415  (matplotlib; arguments come first)

        return draw_both(arguments.before, arguments.after, arguments.out)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
