"""The drift sense alone: ``python -m agent.drift --windows FILE`` reports on windows of prompts."""

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from agent.config import settings_of
from cao.command_line import run_main
from cao.configuration import Machine, Registry, Seed
from cao.errors import InputError
from cao.options import SET, Option, add_common, add_options, command_parser
from cao.progress import timed

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


class DriftOptions(Machine):
    """What the command takes."""

    reference: Annotated[
        tuple[str, ...],
        Field(
            description="the tasks that prompts are expected from: a registered name, a task's name, a file with one"
            " prompt a line, or a reference file; the other registered tasks are known too"
        ),
        Option("NAME|FILE", default="every registered task"),
    ] = ()
    registry: Registry = None
    windows: Annotated[
        Path,
        Field(
            description="one prompt a line, all of them one window, or one JSON list of prompts a line, each a window"
        ),
        Option("FILE"),
    ]
    window: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="cut a file with one prompt a line into windows of N; the last one may be smaller"),
        Option("N"),
    ] = None
    alpha: Annotated[float, Field(gt=0, lt=1, description="level of the test, in (0, 1)")] = 0.05
    seed: Seed = 0
    permutations: Annotated[int, Field(ge=1, description="of each test"), Option("N")] = 999
    signals: Annotated[bool, Field(description="ask the model too (later, and as dear as answering)")] = False


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
    from cao.machine.assets import minilm_folder  # noqa: PLC0415  (this and what follows: seconds to import)
    from cao.model.encoder import Encoder  # noqa: PLC0415
    from tools.detect_drift import detect_drift  # noqa: PLC0415
    from tools.detect_drift.reference import known_tasks  # noqa: PLC0415

    windows = _windows(options.windows, options.window)
    _check_memory(options, max(map(len, windows)))
    encoder = Encoder(minilm_folder(), options.device)
    known = known_tasks(options.reference, encoder, folder=options.registry)
    ask = _asking(options, windows, known) if options.signals else _not_asking
    for number, window in enumerate(windows, 1):
        signals, correct = ask(window)
        with timed(f"window {number} of {len(windows)}") if len(window) >= LONG else nullcontext():
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
        sys.stdout.write((report.model_dump_json() if as_json else line(number, report)) + "\n")
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
    options: DriftOptions, windows: "list[list[Asked]]", known: "KnownTasks"
) -> "Callable[[list[Asked]], tuple[Tensor | None, list[bool | None] | None]]":
    """Return what asks the model a window's questions, once it is sure that the answers can be compared."""
    from cao.model.loading import load_model  # noqa: PLC0415
    from tools.detect_drift.signals import option_signals  # noqa: PLC0415

    for number, window in enumerate(windows, 1):
        missing = sum(one.example is None for one in window)
        if missing:
            raise InputError(
                f"{options.windows}, window {number}: {missing} prompts have no choices; --signals needs them"
            )
    lm = load_model(options)
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


def _check_memory(options: DriftOptions, largest: int) -> None:
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
