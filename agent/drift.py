"""The drift sense alone: ``python -m agent.drift --windows FILE`` reports on windows of prompts."""

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from cao.command_line import compute_options, positive, quiet_libraries, run_command
from cao.errors import InputError
from cao.progress import told

if TYPE_CHECKING:
    from torch import Tensor

    from cao.drift import DriftReport
    from cao.tasks.prompt_file import Asked
    from tools.detect_drift.known_tasks import KnownTasks

MAX_BYTES = 10**9
"""Of what is kept of all permutations of one window."""

LONG = 128
"""Prompts of a window from which on the command says that it is at work."""

_EPILOG = """Each window gets a report of one line. A prompt is a text, or an object with prompt, question, content or
messages (a chat, of which the user's last message counts), perhaps context, choices and answer, and perhaps correct
(whether the deployed model's answer was right). Drift means that every current task is rejected by permutation tests
on the frozen encoder's embeddings. Exit status: 0 reported, 2 bad input, 3 something needed is not installed."""


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    it = argparse.ArgumentParser(prog="python -m agent.drift", description=__doc__, epilog=_EPILOG)
    it.add_argument(
        "--reference",
        nargs="+",
        action="extend",
        metavar="NAME|FILE",
        help="the tasks that prompts are expected from: a registered name, a task's name, a file with one prompt a"
        " line, or a reference file (default: every registered task); the other registered tasks"
        " are known too",
    )
    it.add_argument("--registry", type=Path, metavar="DIR", help="of one's own references (default: the user's data)")
    it.add_argument(
        "--windows",
        required=True,
        type=Path,
        metavar="FILE",
        help="one prompt a line, all of them one window, or one JSON list of prompts a line, each a window",
    )
    it.add_argument(
        "--window",
        type=positive,
        metavar="N",
        help="cut a file with one prompt a line into windows of N; the last one may be smaller",
    )
    it.add_argument("--alpha", default=0.05, type=float, help="level of the test, in (0, 1) (default: %(default)s)")
    it.add_argument("--seed", default=0, type=int, help="of the permutations (default: %(default)s)")
    it.add_argument("--permutations", default=999, type=int, help="(default: %(default)s)")
    it.add_argument("--signals", action="store_true", help="ask the model too (later, and as dear as answering)")
    it.add_argument("--model", default="smollm2-135m", help="the model that --signals asks (default: %(default)s)")
    compute_options(it)
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

    from cao.machine.assets import minilm_folder  # noqa: PLC0415  (this and what follows: seconds to import)
    from cao.model.encoder import Encoder  # noqa: PLC0415
    from tools.detect_drift import detect_drift  # noqa: PLC0415
    from tools.detect_drift.reference import known_tasks  # noqa: PLC0415

    windows = _windows(options.windows, options.window)
    _check_memory(options, max(map(len, windows)))
    encoder = Encoder(minilm_folder())
    known = known_tasks(options.reference or (), encoder, folder=options.registry)
    ask = _asking(options, windows, known) if options.signals else _not_asking
    for number, window in enumerate(windows, 1):
        signals, correct = ask(window)
        with told(f"window {number} of {len(windows)}") if len(window) >= LONG else nullcontext():
            report = detect_drift(
                [one.prompt for one in window],
                None,
                known,
                encoder=encoder,
                signals=signals,
                correct=correct,
                seed=options.seed,
                alpha=options.alpha,
                permutations=options.permutations,
            )
        sys.stdout.write((report.model_dump_json() if options.json else line(number, report)) + "\n")
        sys.stdout.flush()
    return 0


def line(number: int, report: "DriftReport") -> str:
    """Return a report as one line that a person understands.

    Args:
        number: of the window, from 1.
        report: what the detector said.
    """
    return f"window {number}, {report.n} prompts: " + ". ".join([report.sentence, *report.caveats]) + "."


def _not_asking(window: "list[Asked]") -> "tuple[None, list[bool | None] | None]":
    outcomes = [one.correct for one in window]
    return None, outcomes if any(outcome is not None for outcome in outcomes) else None


def _asking(
    options: argparse.Namespace, windows: "list[list[Asked]]", known: "KnownTasks"
) -> "Callable[[list[Asked]], tuple[Tensor | None, list[bool | None] | None]]":
    """Return what asks the model a window's questions, once it is sure that the answers can be compared."""
    from cao.model.loading import load_language_model  # noqa: PLC0415
    from cao.model.profiles import MODELS  # noqa: PLC0415
    from tools.detect_drift.signals import option_signals  # noqa: PLC0415

    for number, window in enumerate(windows, 1):
        missing = sum(one.example is None for one in window)
        if missing:
            raise InputError(
                f"{options.windows}, window {number}: {missing} prompts have no choices; --signals needs them"
            )
    if options.model not in MODELS:
        raise InputError(f"unknown model {options.model!r}; known: {', '.join(MODELS)}")
    lm = load_language_model(MODELS[options.model], device=options.device, dtype=options.dtype, offline=options.offline)
    lacking = [name for name in known.expected if known.references[name].judged_by != lm.sha256]
    if lacking:
        raise InputError(
            f"{', '.join(lacking)}: no option signals of {options.model} in the reference;"
            " make one with: python -m agent.reference add NAME SOURCE --signals"
        )

    def ask(window: "list[Asked]") -> "tuple[Tensor | None, list[bool | None] | None]":
        signals, right = option_signals([one.example for one in window if one.example is not None], lm)
        judged = [
            one.correct if one.correct is not None else (verdict if one.labelled else None)
            for one, verdict in zip(window, right, strict=True)
        ]
        return signals, judged if any(outcome is not None for outcome in judged) else None

    return ask


def _check_numbers(options: argparse.Namespace) -> None:
    if not 0 < options.alpha < 1:
        raise InputError(f"--alpha {options.alpha:g}: must lie between 0 and 1, both excluded")
    if options.seed < 0:
        raise InputError(f"--seed {options.seed}: must be 0 or above")
    if options.permutations < 1:
        raise InputError(f"--permutations {options.permutations}: must be 1 or above")


def _check_memory(options: argparse.Namespace, largest: int) -> None:
    """Raise InputError where the permutations of a window of ``largest`` prompts would fill memory."""
    from tools.detect_drift.window import MOST_PROMPTS  # noqa: PLC0415  (imports torch)

    rows = 2 * min(largest, MOST_PROMPTS)  # numbers of the rows that play the window
    size = (options.permutations + 1) * (rows + 100)  # and a dozen statistics
    if size > MAX_BYTES:
        raise InputError(
            f"--permutations {options.permutations}: {size / 1e9:.1f} GB for the window of {largest} prompts in"
            f" --windows {options.windows}; take fewer permutations"
        )


def _windows(path: Path, size: int | None) -> "list[list[Asked]]":
    """Return every window of the file, all of them checked before anything is computed."""
    from cao.tasks.prompt_file import read_windows  # noqa: PLC0415  (imports torch)

    return read_windows(path, size)


if __name__ == "__main__":
    sys.exit(main())
