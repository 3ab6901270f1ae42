"""Reports on windows of prompts, as ``python -m agent.drift`` prints them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext

from torch import Tensor

from agent.stages.options import DriftOptions
from cao.drift import DriftReport
from cao.errors import InputError
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.model.loading import load_model
from cao.progress import timed
from cao.tasks.prompt_file import Asked
from tools.detect_drift import detect_drift
from tools.detect_drift.known_tasks import KnownTasks
from tools.detect_drift.reference import known_tasks
from tools.detect_drift.signals import option_signals
from tools.detect_drift.window import MOST_PROMPTS

MAX_BYTES = 10**9
"""Of what is kept of all permutations of one window."""

LONG = 128
"""Prompts of a window from which on the command says that it is at work."""


def report(options: DriftOptions, windows: list[list[Asked]], *, as_json: bool) -> int:
    """Print a report on each window.

    Args:
        options: what the command takes.
        windows: the prompts, checked.
        as_json: print an object a line.

    Raises:
        InputError: the references or the windows cannot be used.
        UnavailableError: a model is not at hand.
    """
    for number, found in enumerate(reports(options, windows), 1):
        sys.stdout.write((found.model_dump_json() if as_json else line(number, found)) + "\n")
        sys.stdout.flush()
    return 0


def reports(options: DriftOptions, windows: list[list[Asked]]) -> Iterator[DriftReport]:
    """Yield a report on each window as soon as it is there.

    Args:
        options: what the command takes.
        windows: the prompts, checked.

    Raises:
        InputError: the references or the windows cannot be used.
        UnavailableError: a model is not at hand.
    """
    _check_memory(options, max(map(len, windows)))
    encoder = Encoder(minilm_folder(), options.device)
    known = known_tasks(options.reference, encoder, folder=options.registry)
    ask, known = _asking(options, windows, known) if options.signals else (_not_asking, known.heard_from(None))
    for number, window in enumerate(windows, 1):
        signals, correct = ask(window)
        with timed(f"window {number} of {len(windows)}") if len(window) >= LONG else nullcontext():
            yield detect_drift(
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


def line(number: int, report: DriftReport) -> str:
    """Return a report as one line that a person understands.

    Args:
        number: of the window, from 1.
        report: what the detector said.
    """
    return f"window {number}, {report.n} prompts: " + ". ".join([report.sentence, *report.caveats]) + "."


def _not_asking(window: list[Asked]) -> tuple[None, list[bool | None] | None]:
    outcomes = [one.correct for one in window]
    return None, outcomes if any(outcome is not None for outcome in outcomes) else None


def _asking(
    options: DriftOptions, windows: list[list[Asked]], known: KnownTasks
) -> tuple[Callable[[list[Asked]], tuple[Tensor | None, list[bool | None] | None]], KnownTasks]:
    """Return what asks the model a window's questions, and the tasks with what this model said of them alone."""
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

    def ask(window: list[Asked]) -> tuple[Tensor | None, list[bool | None] | None]:
        signals, right = option_signals([one.example for one in window if one.example is not None], lm)
        judged = [
            one.correct if one.correct is not None else (verdict if one.labelled else None)
            for one, verdict in zip(window, right, strict=True)
        ]
        return signals, judged if any(outcome is not None for outcome in judged) else None

    return ask, known.heard_from(lm.sha256)


def _check_memory(options: DriftOptions, largest: int) -> None:
    """Raise InputError where the permutations of a window of ``largest`` prompts would fill memory."""
    rows = 2 * min(largest, MOST_PROMPTS)  # numbers of the rows that play the window
    size = (options.permutations + 1) * (rows + 100)  # and a dozen statistics
    if size > MAX_BYTES:
        raise InputError(
            f"--permutations {options.permutations}: {size / 1e9:.1f} GB for the window of {largest} prompts in"
            f" --windows {options.windows}; take fewer permutations"
        )
