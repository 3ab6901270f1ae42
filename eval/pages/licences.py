"""``python -m eval.pages.licences``: write which licence each pinned package states in its own metadata.

Only what is installed can be asked; the page names the others. It says what packages state of themselves, and no more.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Protocol

from cao.command_line import run_command

ROOT = Path(__file__).resolve().parents[2]
LISTS = ("constraints.txt", "requirements-embedded.txt")
SHORT = 60
"""Characters of a licence's name, at most; some packages put the whole text there."""
HEAD = """# Licences

Written by `make licences`: what each package that [constraints.txt](../../constraints.txt) and
[requirements-embedded.txt](../../requirements-embedded.txt) pin states of itself. CAO-LLM's own licence is
[Apache-2.0](../../LICENSE); of models and data sets, `python -m agent.doctor` and each task's source say theirs.
"""


class Fields(Protocol):
    """Core metadata, whose fields may be given more than once."""

    def get_all(self, name: str, failobj: None = None) -> Sequence[object] | None:
        """Return every value of a field, None where it is not given."""


def pinned(root: Path = ROOT) -> dict[str, str]:
    """Return every pinned package with its version, by name."""
    lines = [line for name in LISTS for line in (root / name).read_text(encoding="utf-8").splitlines()]
    found = [re.match(r"([\w.-]+)==([\w.!+-]+)", line) for line in lines]
    return dict(sorted(((m[1], m[2]) for m in found if m), key=lambda pair: pair[0].lower()))


def stated(metadata: Fields) -> str:
    """Return the licence that a package's metadata states: the expression, else the name, else the classifiers.

    Args:
        metadata: the package's core metadata.
    """
    expression, licence = (
        str(next(iter(metadata.get_all(key) or ()), "")).strip() for key in ("License-Expression", "License")
    )
    if expression:
        return expression
    first = licence.partition("\n")[0].strip()
    classifiers = [str(each).split(" :: ") for each in metadata.get_all("Classifier") or ()]
    classified = ", ".join(parts[-1] for parts in classifiers if parts[0] == "License")
    candidates = (licence if licence == first else "", classified, first)
    return next((each for each in candidates if 0 < len(each) <= SHORT), "not stated")


def page(packages: dict[str, str]) -> str:
    """Return the page.

    Args:
        packages: name → version.
    """
    rows, missing = [], []
    for name, version in packages.items():
        try:
            found = distribution(name)
        except PackageNotFoundError:
            missing.append(name)
            continue
        other = "" if found.version == version else f" (of {found.version})"
        rows.append(f"| {name} | {version} | {stated(found.metadata)}{other} |")
    absent = f"\nPinned, but not installed where this was written: {', '.join(missing)}.\n" if missing else ""
    return "\n".join([HEAD, "| package | version | licence |", "|---|---|---|", *rows, absent]).rstrip("\n") + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    p = argparse.ArgumentParser(prog="python -m eval.pages.licences", description=(__doc__ or "").split("``: ")[-1])
    p.add_argument("--out", metavar="FILE", type=Path, default=ROOT / "docs/reference/licences.md")
    arguments = p.parse_args(argv)

    def body() -> int:
        arguments.out.write_text(page(pinned()), encoding="utf-8")
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
