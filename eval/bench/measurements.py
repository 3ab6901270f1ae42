"""The benchmarks behind their options: each loads what it measures, and what came of it is printed and written."""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from agent.record.terminal import make_view
from agent.train.engine.settings import EngineSettings
from cao.errors import InputError
from cao.inference.answer_loss import answer_rows
from cao.model.loading import load_model
from cao.progress import Progress
from cao.tasks import get_task
from cao.types import Record
from eval.bench import adapter, engine, latent, processor, scoring, whole_run
from eval.bench.growth import axes as growth_axes
from eval.bench.growth import measure as growth
from eval.bench.measure import BenchResult, Line
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
from eval.bench.plain import parity
from eval.bench.plain.harness import check_harness
from eval.bench.serving import measure as serving
from eval.bench.size import measure as size
from eval.bench.training import measure as training
from eval.bench.training.loops import surprising
from eval.questions import asked_prompts, drawn
from tools.detect_drift.reference import IN_DOMAIN
from tools.generate_lora.checkpoints import CheckpointPreset

Options = TypeVar("Options", bound=Record)
Measurement = Callable[[Record, Progress], BenchResult]


def _run(a: RunBench, progress: Progress) -> BenchResult:
    return whole_run.bench(list(a.arguments) or ["--task", "gsm8k"], a.repetitions, a.compare)


def _processor(a: ProcessorBench, progress: Progress) -> BenchResult:
    return processor.bench(a.repetitions, progress)


def _scoring(a: ScoringBench, progress: Progress) -> BenchResult:
    check_harness()
    subjects = [scoring.Subject(get_task(name), drawn(name, a.limit, "reward")) for name in a.tasks or IN_DOMAIN]
    return scoring.bench(load_model(a), subjects, repetitions=a.repetitions, batch=a.batch, progress=progress)


def _parity(a: ParityBench, progress: Progress) -> BenchResult:
    check_harness()
    asked = [(get_task(name), drawn(name, a.limit, "reward")) for name in a.tasks or IN_DOMAIN]
    exact = a.model_copy(update={"dtype": "float32"}) if a.dtype == "auto" else a
    return parity.bench(load_model(exact), asked, batch=a.batch, progress=progress)


def _latent(a: LatentBench, progress: Progress) -> BenchResult:
    task, examples, lm = get_task(a.task), drawn(a.task, a.limit, "reward"), load_model(a)
    prompts = [lm.encode(task.query(example, lm.profile.answer_style).prefix) for example in examples]
    return latent.bench(lm, prompts, repetitions=a.repetitions, progress=progress)


def _training(a: TrainingBench, progress: Progress) -> BenchResult:
    examples, lm = drawn(a.task, 16 * a.limit, "train"), load_model(a)
    rows = answer_rows(lm, get_task(a.task), examples[: a.limit], 128)
    prompts = surprising(lm, [example.prompt for example in examples], a.limit)
    rows, prompts = rows[: len(rows) // a.batch * a.batch], prompts[: len(prompts) // a.batch * a.batch]
    if min(len(rows), len(prompts)) < 2 * a.batch:
        raise InputError(f"{a.task} has too few training questions for two batches of {a.batch}; lower --batch")
    return training.bench(lm, rows, prompts, batch=a.batch, repetitions=a.repetitions, progress=progress)


def _adapter(a: AdapterBench, progress: Progress) -> BenchResult:
    examples, lm = drawn(a.task, a.limit, "support"), load_model(a)
    asked = asked_prompts(a.task, examples, lm.profile.answer_style)
    cheap = adapter.cheap_way(lm, a.task, [example.prompt for example in examples], asked)
    with tempfile.TemporaryDirectory() as folder:
        trained = adapter.recipe(lm, a.task, Path(folder), cheap.encoder, CheckpointPreset())
        return adapter.bench(cheap, trained, repetitions=a.repetitions, progress=progress)


def _growth(a: GrowthBench, progress: Progress) -> BenchResult:
    examples, lm = drawn(a.task, a.limit, "reward"), load_model(a)
    text = "\n".join(example.prompt for example in examples)
    axes = [
        growth_axes.questions_axis(lm, get_task(a.task), examples),
        growth_axes.length_axis(lm, text),
        *growth_axes.adapter_axes(lm),
        growth_axes.drift_axis(),
    ]
    return growth.bench(axes, repetitions=a.repetitions, device=a.device, progress=progress)


def _engine(a: EngineBench, progress: Progress) -> BenchResult:
    return engine.bench(a, EngineSettings(kind=a.kind))


def _serving(a: ServingBench, progress: Progress) -> BenchResult:
    return serving.bench(a, progress)


def _size(a: SizeBench, progress: Progress) -> BenchResult:
    return size.bench(a, progress)


def _taking(settings: type[Options], measure: Callable[[Options, Progress], BenchResult]) -> Measurement:
    def measured(options: Record, progress: Progress) -> BenchResult:
        assert isinstance(options, settings), options
        return measure(options, progress)

    return measured


MEASUREMENTS: dict[str, Measurement] = {
    "run": _taking(RunBench, _run),
    "processor": _taking(ProcessorBench, _processor),
    "scoring": _taking(ScoringBench, _scoring),
    "parity": _taking(ParityBench, _parity),
    "latent": _taking(LatentBench, _latent),
    "training": _taking(TrainingBench, _training),
    "adapter": _taking(AdapterBench, _adapter),
    "growth": _taking(GrowthBench, _growth),
    "engine": _taking(EngineBench, _engine),
    "serving": _taking(ServingBench, _serving),
    "size": _taking(SizeBench, _size),
}
"""Name → the measurement."""


def bench(name: str, options: Record, command: str, *, write: bool, as_json: bool) -> int:
    """Measure and print, and write into the page where that is asked for.

    Args:
        name: of the benchmark.
        options: what it takes.
        command: as it was given, for the page.
        write: put the figures into the page.
        as_json: print an object.

    Raises:
        InputError: it cannot be measured so.
        UnavailableError: something needed is not at hand.
    """
    with closing(make_view()) as view:
        result = MEASUREMENTS[name](options, view.progress)
    turns = "" if isinstance(result, parity.ParityResult) else f"; {result.repetitions} repetitions by turns"
    setting = f"{result.machine.sentence}{turns}."
    if write:
        _write(command, setting, result)
    if as_json:
        sys.stdout.write(json.dumps(result.model_dump(mode="json"), allow_nan=False) + "\n")
    else:
        _print(f"{command}\n{setting}", result.lines())
    return 0


def _write(command: str, setting: str, result: BenchResult) -> None:
    from eval.bench import page  # noqa: PLC0415  (imports matplotlib)

    picture = page.PICTURE if isinstance(result, growth.GrowthResult) else None
    kind = result.model if isinstance(result, size.SizeResult) else result.machine.faster
    place = result.bench if result.bench in page.ONE_KIND else f"{result.bench}:{kind}"
    page.write_section(page.PAGE, place, page.section(command, setting, result.lines(), picture))
    if isinstance(result, growth.GrowthResult):
        page.draw_growth(result, page.PAGE.parent / page.PICTURE)


def _print(title: str, lines: Sequence[Line]) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    for label, value in lines:
        table.add_row(label, value)
    Console(highlight=False, width=None if sys.stdout.isatty() else 110).print(table)
