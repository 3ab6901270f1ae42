"""``python -m eval.bench NAME``: measure what something costs here, as ratios, side by side in one process."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from cao.command_line import compute_options, model_path, names_list, positive, quiet_libraries, run_command
from cao.errors import InputError
from cao.model.profiles import MODELS
from eval.bench.ways import WAYS

if TYPE_CHECKING:
    from cao.model.language_model import LanguageModel
    from cao.progress import Progress
    from eval.bench.measure import BenchResult, Line

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
    p = argparse.ArgumentParser(prog="python -m eval.bench", description=__doc__, epilog=EPILOG)
    names = p.add_subparsers(dest="name", metavar="NAME", required=True)
    for name, summary in SUMMARIES.items():
        one = names.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=EPILOG)
        a = one.add_argument
        times = 1 if name == "run" else 5
        a("--repetitions", metavar="N", type=positive, default=times, help="of each side (default %(default)s)")
        a("--json", action="store_true", help="print one JSON object on standard output and nothing else there")
        a("--write", action="store_true", help="put the figures into docs/results/benchmarks.md")
        a("--debug", action="store_true", help="show tracebacks")
        if name == "run":
            a("--compare", metavar="WAY,...", type=names_list, default=(), help=f"by turns with: {', '.join(WAYS)}")
            a("arguments", nargs="*", help="arguments for agent.run after -- (default: --task gsm8k)")
            continue
        if name == "processor":
            continue
        a("--model", metavar="NAME", default="smollm2-135m", help="model profile (default %(default)s)")
        a("--set", metavar="model_path=DIR", action="append", default=[], dest="assignments", help="the model's folder")
        compute_options(one)
        a("--offline", action="store_true", help="never touch the network")
        _add_own(one, name)
    return p


def _add_own(one: argparse.ArgumentParser, name: str) -> None:
    a = one.add_argument
    if name == "scoring":
        a("--tasks", metavar="NAME,...", type=names_list, help="default: the six in-domain tasks")
        a("--batch", metavar="N", type=positive, default=16, help="the harness's batch (default %(default)s)")
    else:
        task = {"adapter": "arc_challenge"}.get(name, "arc_easy")
        a("--task", metavar="NAME", default=task, help="where questions come from (default %(default)s)")
    limits = {"scoring": (48, "questions of a task"), "latent": (16, "prompts"), "training": (64, "questions")}
    limits |= {"adapter": (32, "prompts"), "growth": (64, "questions at most"), "engine": (80, "questions of a cell")}
    limit, what = limits[name]
    a("--limit", metavar="N", type=positive, default=limit, help=f"{what} (default %(default)s)")
    if name == "engine":
        a("--kind", choices=["local", "ray"], default="local", help="processes here, or Ray (default %(default)s)")
        a("--cells", metavar="N", type=positive, default=4, help="independent cells (default %(default)s)")
    if name == "training":
        a("--batch", metavar="N", type=positive, default=8, help="rows a step (default %(default)s)")


def _model(a: argparse.Namespace) -> "LanguageModel":
    from cao.model.loading import load_language_model  # noqa: PLC0415  (imports torch; arguments come first)

    if a.model not in MODELS:
        raise InputError(f"unknown model {a.model!r}; known: {', '.join(MODELS)}")
    return load_language_model(
        MODELS[a.model], path=model_path(a.assignments), device=a.device, dtype=a.dtype, offline=a.offline
    )


def _run(a: argparse.Namespace, progress: "Progress") -> "BenchResult":
    from eval.bench import whole_run  # noqa: PLC0415  (this and the like below: seconds to import)

    return whole_run.bench(a.arguments or ["--task", "gsm8k"], a.repetitions, a.compare)


def _processor(a: argparse.Namespace, progress: "Progress") -> "BenchResult":
    from eval.bench import processor  # noqa: PLC0415

    return processor.bench(a.repetitions, progress)


def _scoring(a: argparse.Namespace, progress: "Progress") -> "BenchResult":
    from cao.tasks import get_task  # noqa: PLC0415
    from eval.bench import scoring  # noqa: PLC0415
    from eval.bench.plain.harness import check_harness  # noqa: PLC0415
    from eval.questions import drawn  # noqa: PLC0415
    from tools.detect_drift.reference import IN_DOMAIN  # noqa: PLC0415

    check_harness()
    subjects = [scoring.Subject(get_task(name), drawn(name, a.limit, "reward")) for name in a.tasks or IN_DOMAIN]
    return scoring.bench(_model(a), subjects, repetitions=a.repetitions, batch=a.batch, progress=progress)


def _latent(a: argparse.Namespace, progress: "Progress") -> "BenchResult":
    from cao.tasks import get_task  # noqa: PLC0415
    from eval.bench import latent  # noqa: PLC0415
    from eval.questions import drawn  # noqa: PLC0415

    task, examples, lm = get_task(a.task), drawn(a.task, a.limit, "reward"), _model(a)
    prompts = [lm.encode(task.query(example, lm.profile.answer_style).prefix) for example in examples]
    return latent.bench(lm, prompts, repetitions=a.repetitions, progress=progress)


def _training(a: argparse.Namespace, progress: "Progress") -> "BenchResult":
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


def _adapter(a: argparse.Namespace, progress: "Progress") -> "BenchResult":
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


def _growth(a: argparse.Namespace, progress: "Progress") -> "BenchResult":
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


def _engine(a: argparse.Namespace, progress: "Progress") -> "BenchResult":
    from agent.train.engine.settings import EngineSettings  # noqa: PLC0415
    from eval.bench import engine  # noqa: PLC0415

    plan = engine.Plan(a.model, model_path(a.assignments), a.task, a.cells, a.limit, a.repetitions, a.offline)
    return engine.bench(plan, EngineSettings(kind=a.kind))


BENCHES: dict[str, Callable[[argparse.Namespace, "Progress"], "BenchResult"]] = {
    "run": _run,
    "processor": _processor,
    "scoring": _scoring,
    "latent": _latent,
    "training": _training,
    "adapter": _adapter,
    "growth": _growth,
    "engine": _engine,
}
"""Name → measurement."""


def _measure(a: argparse.Namespace, command: str) -> int:
    from agent.record.terminal import make_view  # noqa: PLC0415

    with closing(make_view()) as view:
        result = BENCHES[a.name](a, view.progress)
    setting = f"{result.machine.sentence}; {result.repetitions} repetitions by turns."
    if a.write:
        _write(command, setting, result)
    if a.json:
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
    arguments = parser().parse_args(given)
    quiet_libraries(offline=getattr(arguments, "offline", False))
    shown = shlex.join(word for word in given if word not in ("--json", "--write", "--debug"))
    return run_command(lambda: _measure(arguments, f"python -m eval.bench {shown}"), debug=arguments.debug)
