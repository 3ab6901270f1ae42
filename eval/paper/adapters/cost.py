"""Appendix C: what aligning and training grow with, in time and counted operations, and what ways to an adapter cost.

The axes and the ways are those of ``eval.bench growth`` and ``eval.bench adapter``; nothing is measured here that they
do not measure. Operations are counted besides, at the same sizes: no other load on the machine changes them.

Source: CAO-LLM C, §2.3 (O(D)).
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cao.errors import CaoError
from cao.progress import Progress
from cao.types import Record
from eval.baselines.baseline import TEST_STEPS
from eval.baselines.ground import FEW
from eval.bench import adapter
from eval.bench.adapter import AdapterResult
from eval.bench.cost import Cheap, count
from eval.bench.growth.axes import TASKS, adapter_axes
from eval.bench.growth.measure import Axis, AxisResult
from eval.bench.growth.measure import measure as grown
from eval.bench.measure import exponent, machine
from eval.generation.sheets import PROMPTS
from eval.options import TablesOptions
from eval.paper.adapters.cost_results import AxisCost, CostResult, Way
from eval.paper.adapters.stock import Stock
from eval.paper.adapters.verdicts import orders
from eval.questions import asked_prompts, drawn
from tools.align_lora.presets import EMBEDDED, AlignerPreset
from tools.detect_drift.reference import IN_DOMAIN
from tools.generate_lora.checkpoints import CheckpointPreset

LAYERS, FEWER_LAYERS = (16, 32, 64, 128, 256), (8, 16, 32, 64)
"""Numbers of layers that D is taken at, in use and in training."""

REPETITIONS = 3
COUNTED = CheckpointPreset(warm_steps=2, kept_steps=1, batch=8)
"""A training of few steps, multiplied out to the recipe's."""

ORDERS = ("O(D)", "O(K·D), in K", "O(K·D), in D")
"""The paper's, for the three axes of ``adapter_axes``."""


class Sized(Record):
    """What is kept of an axis: times, and operations of each size."""

    timed: AxisResult
    operations: tuple[float, ...]


def result(
    setting: Mapping[str, object], stock: Stock, options: TablesOptions, tasks: Sequence[str], progress: Progress
) -> CostResult:
    """Measure the table; arguments as in ``table3.result``."""
    described = machine().sentence
    axes = grown_axes(stock, REPETITIONS, progress)
    ways, absent = dict[str, Way](), dict[str, str]()
    try:
        ways = ways_of(_ways(stock, tasks, progress))
    except CaoError as error:
        absent["ways"] = str(error)
    return CostResult.model_validate(
        {
            **setting,
            "machine": described,
            "repetitions": REPETITIONS,
            "axes": axes,
            "ways": ways,
            "absent": absent,
            "verdicts": (orders(axes, str(setting["command"])),),
        }
    )


def grown_axes(
    stock: Stock,
    repetitions: int,
    progress: Progress,
    *,
    layers: Sequence[int] = LAYERS,
    fewer: Sequence[int] = FEWER_LAYERS,
    tasks: Sequence[int] = TASKS,
    preset: AlignerPreset = EMBEDDED,
) -> dict[str, AxisCost]:
    """Return how time and operations grow along each axis.

    Args:
        stock: whose model's layers are taken, and where axes are kept.
        repetitions: of every size.
        progress: called after each axis.
        layers: numbers of layers that D is taken at, in use.
        fewer: the same in training.
        tasks: numbers of tasks.
        preset: the aligner's sizes.
    """
    found, every = dict[str, AxisCost](), adapter_axes(stock.lm, layers, fewer, tasks, preset)
    for done, (axis, order) in enumerate(zip(every, ORDERS, strict=True), 1):
        depends_on = {
            "sizes": axis.sizes,
            "repetitions": repetitions,
            "preset": preset.model_dump(mode="json"),
            "machine": [machine().cpu, machine().threads],
        }
        kept = stock.kept.record(f"growth-{done}", depends_on, Sized, lambda axis=axis: _sized(axis, repetitions))  # type: ignore[misc]
        found[axis.name] = _cost(kept, order)
        progress("growth", done, len(every))
    return found


def _sized(axis: Axis, repetitions: int) -> Sized:
    """Return an axis's times, and the operations of its work alone: preparing it is not counted."""
    counted = list[float]()
    for size in axis.sizes:
        body = axis.prepare(size)
        counted.append(count(lambda body=body: _run(body))[0])  # type: ignore[misc]
    return Sized(timed=grown(axis, repetitions), operations=tuple(counted))


def _run(body: Callable[[], object]) -> None:
    body()


def _cost(kept: Sized, order: str) -> AxisCost:
    timed = kept.timed
    return AxisCost(
        work=timed.work,
        order=order,
        sizes=tuple(timed.sizes),
        seconds=tuple(timed.seconds),
        exponent=timed.exponent,
        spread=timed.spread,
        operations=kept.operations,
        operations_exponent=round(exponent(timed.sizes, kept.operations)[0], 4),
    )


def _ways(stock: Stock, tasks: Sequence[str], progress: Progress) -> AdapterResult:
    """Return the benchmark of making an adapter against training one, with few steps of the training.

    The adapter is made for the first task that an aligner serves. Such a task is no source and is not trained on; the
    training is that of the first source.
    """
    task = next((task for task in tasks if stock.trained(task).aligner), tasks[0])
    source = IN_DOMAIN[0]
    depends_on = {
        "tasks": (task, source),
        "generator": stock.generator(task).sha256,
        "aligner": stock.aligner(task).sha256,
        "counted": COUNTED.model_dump(mode="json"),
        "repetitions": REPETITIONS,
        "machine": [machine().cpu, machine().threads],
    }

    def made() -> AdapterResult:
        lm = stock.lm
        examples = drawn(task, PROMPTS, "support")
        asked = asked_prompts(task, examples, lm.profile.answer_style)
        prompts = [example.prompt for example in examples]
        cheap = Cheap(stock.encoder, stock.generator(task), stock.aligner(task), lm, prompts, asked)
        with tempfile.TemporaryDirectory() as folder:
            trained = adapter.recipe(lm, source, Path(folder), cheap.encoder, COUNTED)
            return adapter.bench(cheap, trained, repetitions=REPETITIONS, progress=progress)

    return stock.kept.record(f"ways-{task}", depends_on, AdapterResult, made)


def ways_of(bench: AdapterResult) -> dict[str, Way]:
    """Return the ways to an adapter, the trainings multiplied out from the steps that were measured.

    Args:
        bench: of making one, and of a training of few steps.
    """
    questions = bench.recipe.steps * bench.recipe.batch
    asked = {
        "training on the task, as a checkpoint": CheckpointPreset().questions,
        "training as many questions as ten steps of few-shot baselines": TEST_STEPS * FEW,
    }
    noisy = ", on a machine too noisy to compare" if bench.time_ratio is None else ""
    made = Way(
        seconds=bench.seconds["all"],
        operations=bench.flops["all"],
        gradients=False,
        how=f"{bench.prompts} prompts, {bench.repetitions} repetitions",
    )
    return {"CAO-LLM: prompts → aligned adapter": made} | {
        name: Way(
            seconds=round(bench.seconds["training"] * number / questions, 1),
            operations=bench.flops["training"] * number / questions,
            gradients=True,
            how=f"{number:,} questions, multiplied out from {questions}{noisy}",
        )
        for name, number in asked.items()
    }
