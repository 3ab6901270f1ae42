"""The drift sense alone: ``python -m agent.drift --windows FILE.jsonl`` reports on windows of prompts."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cao.command_line import quiet_libraries, run_command
from cao.errors import InputError

if TYPE_CHECKING:
    from cao.types import DriftReport

MAX_PROMPTS = 8192
"""Prompts in one window; their distances to each other fill half a gigabyte."""

MAX_PERMUTATIONS = 1_000_000

_EPILOG = """Each line of the windows file is a JSON list of prompts; each gets a report of one line. Drift means that
every reference is rejected by a permutation test on the energy distance of the frozen encoder's embeddings. Exit
status: 0 reported, 2 bad input, 3 something needed is not installed."""


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    it = argparse.ArgumentParser(prog="python -m agent.drift", description=__doc__, epilog=_EPILOG)
    it.add_argument(
        "--reference",
        nargs="+",
        action="extend",
        metavar="NAME|FILE",
        help="known tasks: a task's name, a JSONL file with a prompt or question on each line, or a stored reference"
        " (default: the six in-domain tasks)",
    )
    it.add_argument("--windows", required=True, type=Path, metavar="FILE.jsonl", help="one JSON list of prompts a line")
    it.add_argument("--alpha", default=0.05, type=float, help="level of the test, in (0, 1) (default: %(default)s)")
    it.add_argument("--seed", default=0, type=int, help="of the permutations (default: %(default)s)")
    it.add_argument("--permutations", default=999, type=int, help="(default: %(default)s)")
    it.add_argument("--json", action="store_true", help="one JSON object a line instead of a sentence")
    it.add_argument("--offline", action="store_true", help="never use the network")
    it.add_argument("--debug", action="store_true", help="show tracebacks of expected errors")
    return it


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = parser().parse_args(arguments)
    quiet_libraries(offline=options.offline)
    return run_command(lambda: _report(options), debug=options.debug)


def _report(options: argparse.Namespace) -> int:
    _check_numbers(options)

    from cao.assets import minilm_folder  # noqa: PLC0415  (this and what follows: seconds to import)
    from cao.encoder import Encoder  # noqa: PLC0415
    from tools.detect_drift import detect_drift  # noqa: PLC0415
    from tools.detect_drift.reference import KNOWN_TASKS, load_references  # noqa: PLC0415

    windows = _windows(options.windows)
    encoder = Encoder(minilm_folder())
    references = load_references(options.reference or KNOWN_TASKS, encoder)
    for number, prompts in enumerate(windows, 1):
        report = detect_drift(
            prompts,
            None,
            references,
            encoder=encoder,
            seed=options.seed,
            alpha=options.alpha,
            permutations=options.permutations,
        )
        sys.stdout.write((report.model_dump_json() if options.json else sentence(number, report)) + "\n")
        sys.stdout.flush()
    return 0


def sentence(number: int, report: "DriftReport") -> str:
    """Return a report as one line that a person understands.

    Args:
        number: of the window, from 1.
        report: what the detector said.
    """
    nearest = f"nearest is {report.nearest_task} at energy distance {report.score:.3f}"
    evidence = f"largest p = {report.p_value:.3g}, level {report.alpha:g}"
    kept = [name for name, p in report.p_values.items() if p > report.alpha]
    differ = "differ" if report.drifted else "do not differ"
    verdict = {
        "domain_transfer": f"drifted: unlike every known task ({evidence}); {nearest}",
        "none": f"no drift: cannot be told from {', '.join(kept)} ({evidence}); {nearest}",
        "not_covered": f"the encoder does not cover these prompts; they {differ}"
        f" from every known task ({evidence}), and no task is named",
        "insufficient": f"no verdict; {nearest}" if report.nearest_task else "no verdict",
    }[report.kind]
    return f"window {number}, {report.n} prompts: " + ". ".join([verdict, *report.caveats]) + "."


def _check_numbers(options: argparse.Namespace) -> None:
    if not 0 < options.alpha < 1:
        raise InputError(f"--alpha {options.alpha:g}: must lie between 0 and 1, both excluded")
    if options.seed < 0:
        raise InputError(f"--seed {options.seed}: must be 0 or above")
    if not 1 <= options.permutations <= MAX_PERMUTATIONS:
        raise InputError(f"--permutations {options.permutations}: must lie between 1 and {MAX_PERMUTATIONS:,}")


def _windows(path: Path) -> list[list[str]]:
    """Return every window of the file, all of them checked before anything is computed."""
    from tools.detect_drift.reference import check_text, json_lines  # noqa: PLC0415  (imports torch)

    windows = []
    for where, line in json_lines(path):
        if not isinstance(line, list):
            raise InputError(f"{where}: expected a JSON list of prompts, found {json.dumps(line)[:40]}")
        if len(line) > MAX_PROMPTS:
            raise InputError(f"{where}: {len(line)} prompts; divide a window of more than {MAX_PROMPTS}")
        windows.append([check_text(prompt, f"{where}, prompt {item}") for item, prompt in enumerate(line, 1)])
    if not windows:
        raise InputError(f"{path}: holds no window; each line is a JSON list of prompts")
    return windows


if __name__ == "__main__":
    sys.exit(main())
