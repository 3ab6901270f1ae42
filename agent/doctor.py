"""``python -m agent.doctor``: what is installed, which models and keys are at hand, what to do about the rest.

The checks are in ``agent.health``; those imported here need the standard library alone, for the doctor must speak
where everything else is missing. What takes seconds to import is looked at last.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict

from agent.health.checks import (
    INSTALL_CORE,
    OPTIONAL,
    Check,
    check_extras,
    check_key,
    check_optional,
    check_package,
    check_python,
    check_room,
    installed,
    requirements,
)
from cao.command_line import run_main
from cao.errors import CaoError
from cao.options import PRETRAINED, add_common, command_parser


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    epilog = "exit status: 0 a default run can work; 3 something it needs is missing"
    p = command_parser("agent.doctor", "What is installed and reachable, and what to do about the rest.", epilog)
    p.add_argument("--pretrained", metavar="DIR", help=f"{PRETRAINED} (default: what ships)")
    add_common(p, "--offline")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    p = parser()
    p.set_defaults(offline=os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"))
    return run_main(
        p, lambda parsed: report(examine(offline=parsed.offline, folder=parsed.pretrained), as_json=parsed.json), argv
    )


def examine(*, offline: bool, folder: str | None = None) -> Iterator[Check]:
    """Look at everything and yield each result as it comes.

    Args:
        offline: never touch the network.
        folder: of trained parts; None for the shipped one.
    """
    yield check_python(sys.version_info[:3])
    needed = requirements()
    yield from (check_package(name, needed[name], installed(name)) for name in needed if name not in OPTIONAL)
    yield from (check_optional(name, needed[name], use, installed(name)) for name, use in OPTIONAL.items())
    yield from _checked("extras", check_extras)
    yield check_key()
    yield from _checked("room", check_room)
    yield from _checked("models and data", lambda: _light(offline=offline))
    yield from _checked("devices and trained parts", lambda: _heavy(folder))


def _light(*, offline: bool) -> Iterator[Check]:
    from agent.health import compute, embedded, hub  # noqa: PLC0415  (what they import may be missing)

    yield from _checked("cache", embedded.check_cache)
    yield from _checked("tasks", embedded.check_tasks)
    yield from _checked("embedded", embedded.check_embedded)
    yield from _checked("hub models", lambda: hub.check_hub(offline=offline))
    yield from _checked("dtype", compute.check_compute)


def _heavy(folder: str | None) -> Iterator[Check]:
    from agent.health import devices, trained  # noqa: PLC0415  (torch: seconds to import, and it may be missing)

    yield from _checked("devices", devices.check_torch)
    yield from _checked("trained generators", lambda: trained.check_pretrained(folder))
    yield from _checked("trained policies", lambda: trained.check_policies(folder))


def _checked(name: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Yield the results of checks, and under this name what keeps from looking."""
    try:
        yield from look()
    except (ImportError, CaoError, OSError) as error:
        yield Check(name, "missing", " ".join(str(error).split())[:200], INSTALL_CORE)


def report(rows: Iterable[Check], *, as_json: bool) -> int:
    """Print the rows as they come, or as JSON; return 0 where a default run can work, else 3."""
    if as_json:
        listed = list(rows)
        able = all(row.status != "missing" for row in listed)
        sys.stdout.write(json.dumps({"ok": able, "rows": [asdict(row) for row in listed]}, indent=2) + "\n")
        return 0 if able else 3
    able, width = True, max(map(len, requirements()))
    for row in rows:
        able = able and row.status != "missing"
        sys.stdout.write(f"{row.status:<8}  {row.name:<{width}}  {row.detail}\n")
        if row.fix:
            sys.stdout.write(f"{'':<8}  {'':<{width}}  → {row.fix}\n")
        sys.stdout.flush()
    conclusion = (
        "A default run can work: python -m agent.run --task gsm8k"
        if able
        else "A default run cannot work yet: see “missing”."
    )
    sys.stdout.write(f"\n{conclusion}\n")
    return 0 if able else 3


if __name__ == "__main__":
    sys.exit(main())
