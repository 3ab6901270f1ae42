"""``python -m eval.bench NAME``: measure what something costs here, as ratios, side by side in one process."""

import argparse
import shlex
import sys

from cao.command_line import run_main
from cao.options import SET, add_common, add_options, command_parser
from cao.types import Record
from eval.bench.options import (
    AdapterBench,
    EngineBench,
    GrowthBench,
    LatentBench,
    ParityBench,
    ProcessorBench,
    RunBench,
    ScoringBench,
    ServingBench,
    SizeBench,
    TrainingBench,
)
from eval.settings import settings_of

BENCHES: dict[str, tuple[type[Record], str]] = {
    "run": (RunBench, "what a default run costs, where its time goes, and how other ways of running it compare"),
    "processor": (ProcessorBench, "what the processor does in each dtype, and what its threads cost when they wait"),
    "scoring": (ScoringBench, "ranking answers, against lm-evaluation-harness on the same model object"),
    "parity": (
        ParityBench,
        "whether lm-evaluation-harness grades questions as we do, item by item; in float32 unless told otherwise",
    ),
    "latent": (LatentBench, "SLOT over batches, against a plain implementation a sample at a time"),
    "training": (TrainingBench, "our LoRA loops, against transformers.Trainer"),
    "adapter": (AdapterBench, "prompts to an aligned adapter, against training one on the task"),
    "growth": (GrowthBench, "time and memory against questions, prompt length, adapter length and tasks"),
    "engine": (EngineBench, "independent cells on one worker and on two"),
    "serving": (ServingBench, "a server under many clients, with the stream detector and without, and through a swap"),
    "size": (SizeBench, "memory and time of each part of the work for a model of the paper's size, random weights"),
}
"""Name → what it takes, and what it measures."""

EPILOG = """Ratios are medians of repetitions by turns. Where they scatter too widely, no figure is printed but that the
machine is too noisy. Exit status: 0 measured; 2 bad input; 3 something needed is not available (with the command that
provides it); 130 interrupted; 1 a defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("eval.bench", __doc__, EPILOG)
    names = p.add_subparsers(dest="name", metavar="NAME", required=True)
    for name, (settings, summary) in BENCHES.items():
        one = names.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=EPILOG)
        add_options(one, settings)
        add_common(one, settable=SET)
    return p


def _measure(arguments: argparse.Namespace, command: str) -> int:
    options = settings_of(BENCHES[arguments.name][0], arguments, "bench")

    from eval.bench.measurements import bench  # noqa: PLC0415  (torch; arguments come first)

    write = bool(getattr(arguments, "write", False))  # serving has no section of the page
    return bench(arguments.name, options, command, write=write, as_json=arguments.json)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = sys.argv[1:] if argv is None else argv
    shown = shlex.join(word for word in given if word not in ("--json", "--write", "--debug"))
    return run_main(parser(), lambda arguments: _measure(arguments, f"python -m eval.bench {shown}"), given)
