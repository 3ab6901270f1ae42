"""``python -m eval.bench NAME``: measure what something costs here, as ratios, side by side in one process."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from cao.command_line import run_main
from cao.errors import InputError
from cao.options import SET, add_common, add_options, command_parser
from cao.types import Record
from eval.bench.options import (
    AdapterBench,
    EngineBench,
    GrowthBench,
    LatentBench,
    ModelBench,
    ProcessorBench,
    RunBench,
    ScoringBench,
    TrainingBench,
)

if TYPE_CHECKING:
    from cao.model.language_model import LanguageModel
    from cao.progress import Progress
    from eval.bench.measure import BenchResult, Line

Options = TypeVar("Options", bound=Record)
Bench = tuple[type[Record], Callable[[argparse.Namespace], Callable[["Progress"], "BenchResult"]]]

SUMMARIES = {
    "run": "what a default run costs, where its time goes, and how other ways of running it compare",
    "processor": "what the processor does in each dtype, and what its threads cost when they wait",
    "scoring": "ranking answers, against lm-evaluation-harness on the same model object",
    "latent": "SLOT over batches, against a plain implementation a sample at a time",
    "training": "our LoRA loops, against transformers.Trainer",
    "adapter": "prompts to an aligned adapter, against training one on the task",
    "growth": "time and memory against questions, prompt length, adapter length and tasks",
    "engine": "independent cells on one worker and on two",
}
EPILOG = """Ratios are medians of repetitions by turns. Where they scatter too widely, no figure is printed but that the
machine is too noisy. Exit status: 0 measured; 2 bad input; 3 something needed is not available (with the command that
provides it); 130 interrupted; 1 a defect."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    p = command_parser("eval.bench", __doc__, EPILOG)
    names = p.add_subparsers(dest="name", metavar="NAME", required=True)
    for name, summary in SUMMARIES.items():
        one = names.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=EPILOG)
        add_options(one, BENCHES[name][0])
        add_common(one, settable=SET)
    return p


def _model(a: ModelBench) -> "LanguageModel":
    from cao.model.loading import load_model  # noqa: PLC0415  (imports torch; arguments come first)

    return load_model(a)


def _run(a: RunBench, progress: "Progress") -> "BenchResult":
    from eval.bench import whole_run  # noqa: PLC0415  (this and the like below: seconds to import)

    return whole_run.bench(list(a.arguments) or ["--task", "gsm8k"], a.repetitions, a.compare)


def _processor(a: ProcessorBench, progress: "Progress") -> "BenchResult":
    from eval.bench import processor  # noqa: PLC0415

    return processor.bench(a.repetitions, progress)


def _scoring(a: ScoringBench, progress: "Progress") -> "BenchResult":
    from cao.tasks import get_task  # noqa: PLC0415
    from eval.bench import scoring  # noqa: PLC0415
    from eval.bench.plain.harness import check_harness  # noqa: PLC0415
    from eval.questions import drawn  # noqa: PLC0415
    from tools.detect_drift.reference import IN_DOMAIN  # noqa: PLC0415

    check_harness()
    subjects = [scoring.Subject(get_task(name), drawn(name, a.limit, "reward")) for name in a.tasks or IN_DOMAIN]
    return scoring.bench(_model(a), subjects, repetitions=a.repetitions, batch=a.batch, progress=progress)


def _latent(a: LatentBench, progress: "Progress") -> "BenchResult":
    from cao.tasks import get_task  # noqa: PLC0415
    from eval.bench import latent  # noqa: PLC0415
    from eval.questions import drawn  # noqa: PLC0415

    task, examples, lm = get_task(a.task), drawn(a.task, a.limit, "reward"), _model(a)
    prompts = [lm.encode(task.query(example, lm.profile.answer_style).prefix) for example in examples]
    return latent.bench(lm, prompts, repetitions=a.repetitions, progress=progress)


def _training(a: TrainingBench, progress: "Progress") -> "BenchResult":
    from cao.inference.answer_loss import answer_rows  # noqa: PLC0415
    from cao.tasks import get_task  # noqa: PLC0415
    from eval.bench.training import measure as training  # noqa: PLC0415
    from eval.bench.training.loops import surprising  # noqa: PLC0415
    from eval.questions import drawn  # noqa: PLC0415

    examples, lm = drawn(a.task, 16 * a.limit, "train"), _model(a)
    rows = answer_rows(lm, get_task(a.task), examples[: a.limit], 128)
    prompts = surprising(lm, [example.prompt for example in examples], a.limit)
    rows, prompts = rows[: len(rows) // a.batch * a.batch], prompts[: len(prompts) // a.batch * a.batch]
    if min(len(rows), len(prompts)) < 2 * a.batch:
        raise InputError(f"{a.task} has too few training questions for two batches of {a.batch}; lower --batch")
    return training.bench(lm, rows, prompts, batch=a.batch, repetitions=a.repetitions, progress=progress)


def _adapter(a: AdapterBench, progress: "Progress") -> "BenchResult":
    import tempfile  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from eval.bench import adapter  # noqa: PLC0415
    from eval.questions import asked_prompts, drawn  # noqa: PLC0415
    from tools.generate_lora.checkpoints import CheckpointPreset  # noqa: PLC0415

    examples, lm = drawn(a.task, a.limit, "support"), _model(a)
    asked = asked_prompts(a.task, examples, lm.profile.answer_style)
    cheap = adapter.cheap_way(lm, a.task, [example.prompt for example in examples], asked)
    with tempfile.TemporaryDirectory() as folder:
        training = adapter.recipe(lm, a.task, Path(folder), cheap.encoder, CheckpointPreset())
        return adapter.bench(cheap, training, repetitions=a.repetitions, progress=progress)


def _growth(a: GrowthBench, progress: "Progress") -> "BenchResult":
    from cao.tasks import get_task  # noqa: PLC0415
    from eval.bench.growth import axes as growth_axes  # noqa: PLC0415
    from eval.bench.growth import measure as growth  # noqa: PLC0415
    from eval.questions import drawn  # noqa: PLC0415

    examples, lm = drawn(a.task, a.limit, "reward"), _model(a)
    text = "\n".join(example.prompt for example in examples)
    axes = [
        growth_axes.questions_axis(lm, get_task(a.task), examples),
        growth_axes.length_axis(lm, text),
        *growth_axes.adapter_axes(lm),
        growth_axes.drift_axis(),
    ]
    return growth.bench(axes, repetitions=a.repetitions, device=a.device, progress=progress)


def _engine(a: EngineBench, progress: "Progress") -> "BenchResult":
    from agent.train.engine.settings import EngineSettings  # noqa: PLC0415
    from eval.bench import engine  # noqa: PLC0415

    return engine.bench(a, EngineSettings(kind=a.kind))


def _bench(settings: type[Options], measure: Callable[[Options, "Progress"], "BenchResult"]) -> Bench:
    def asked(arguments: argparse.Namespace) -> Callable[["Progress"], "BenchResult"]:
        from agent.config import settings_of  # noqa: PLC0415  (after the check that no other package hides ours)

        return partial(measure, settings_of(settings, arguments, "bench"))

    return settings, asked


BENCHES: dict[str, Bench] = {
    "run": _bench(RunBench, _run),
    "processor": _bench(ProcessorBench, _processor),
    "scoring": _bench(ScoringBench, _scoring),
    "latent": _bench(LatentBench, _latent),
    "training": _bench(TrainingBench, _training),
    "adapter": _bench(AdapterBench, _adapter),
    "growth": _bench(GrowthBench, _growth),
    "engine": _bench(EngineBench, _engine),
}
"""Name → what it takes, and the measurement that a command line asks for."""


def _measure(arguments: argparse.Namespace, command: str) -> int:
    from agent.record.terminal import make_view  # noqa: PLC0415

    _, asked = BENCHES[arguments.name]
    bench = asked(arguments)
    with closing(make_view()) as view:
        result = bench(view.progress)
    setting = f"{result.machine.sentence}; {result.repetitions} repetitions by turns."
    if arguments.write:
        _write(command, setting, result)
    if arguments.json:
        sys.stdout.write(json.dumps(result.model_dump(mode="json"), allow_nan=False) + "\n")
    else:
        _print(f"{command}\n{setting}", result.lines())
    return 0


def _write(command: str, setting: str, result: "BenchResult") -> None:
    from eval.bench import page  # noqa: PLC0415  (imports matplotlib)
    from eval.bench.growth.measure import GrowthResult  # noqa: PLC0415

    picture = page.PICTURE if isinstance(result, GrowthResult) else None
    place = result.bench if result.bench in page.ONE_KIND else f"{result.bench}:{result.machine.faster}"
    page.write_section(page.PAGE, place, page.section(command, setting, result.lines(), picture))
    if isinstance(result, GrowthResult):
        page.draw_growth(result, page.PAGE.parent / page.PICTURE)


def _print(title: str, lines: Sequence["Line"]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left", show_header=False)
    for label, value in lines:
        table.add_row(label, value)
    Console(highlight=False, width=None if sys.stdout.isatty() else 110).print(table)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = sys.argv[1:] if argv is None else argv
    shown = shlex.join(word for word in given if word not in ("--json", "--write", "--debug"))
    return run_main(parser(), lambda arguments: _measure(arguments, f"python -m eval.bench {shown}"), given)
