"""``adapter``: from prompts to an aligned adapter, against training one on the task by the checkpoints' whole recipe.

Models are in memory on both sides. Of the training a few steps are measured, and
multiplied out to the recipe's 75 + 50; the operations are counted in the same steps.
"""

import statistics
from pathlib import Path

from agent.loop.trained import find_trained
from agent.train.generator.presets import PRESETS
from agent.train.generator.steps import Consolidation
from cao.errors import UnavailableError
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.progress import Progress, silent
from cao.types import Record
from eval.bench.cost import STAGES, Cheap, Training, medians, operations, time_stages, time_training
from eval.bench.measure import BenchResult, Figure, Line, alternate, machine, ratio
from tools.generate_lora import how_to_train
from tools.generate_lora.checkpoints import CheckpointPreset


class Recipe(Record):
    """How one adapter is trained: steps, and questions a step."""

    steps: int
    batch: int


class AdapterResult(BenchResult):
    """Making an adapter against training one.

    Attributes:
        task: whose adapter.
        prompts: that it is made from.
        recipe: of the training.
        measured_steps: steps that were timed.
        time_ratio: training over making, None where the machine was too noisy.
        noisy: what scatters too widely.
        spread: of the ratio.
        flop_ratio: the same of operations.
        seconds: stage, ``all`` or ``training`` → median seconds.
        flops: the same → operations.
    """

    task: str
    prompts: int
    recipe: Recipe
    measured_steps: int
    time_ratio: float | None
    noisy: list[str]
    spread: float
    flop_ratio: float
    seconds: dict[str, float]
    flops: dict[str, float]

    def lines(self) -> list[Line]:
        """Return the figures in words."""
        seconds, flops = self.seconds, self.flops
        stages = ", ".join(f"{name} {seconds[name]:.2f} s and {flops[name] / 1e9:.0f} GFLOP" for name in STAGES)
        measured = f"multiplied out from {self.measured_steps} steps"
        tflop = f"{flops['training'] / 1e12:.1f} TFLOP against {sum(flops[stage] for stage in STAGES) / 1e12:.2f}"
        return [
            ("task, prompts", f"{self.task}, {self.prompts}"),
            ("time ratio", Figure(self.time_ratio or 0.0, self.spread).text("{:.0f}")),
            ("operations ratio", f"{self.flop_ratio:.0f}"),
            ("prompts → aligned adapter", f"{seconds['all']:.2f} s: {stages}"),
            (
                f"training, {self.recipe.steps} steps of {self.recipe.batch}",
                f"{seconds['training']:.0f} s, {measured}; {tflop}",
            ),
        ]


def cheap_way(lm: LanguageModel, task: str, prompts: list[str], asked: list[str]) -> Cheap:
    """Return the way from prompts to an adapter, with everything loaded.

    Args:
        lm: the base model.
        task: the prompts' task; the generator that never saw it is taken where there is one.
        prompts: N texts.
        asked: the same as the model reads them.

    Raises:
        UnavailableError: nothing was trained for this model, or no aligner that goes with the generator.
    """
    trained = find_trained(lm.sha256, task, "auto", align=True)
    if trained.generator is None:
        raise UnavailableError(f"no trained generator exists for {lm.profile.name}; {how_to_train(lm.profile)}")
    if trained.aligner is None:
        raise UnavailableError(
            f"no aligner goes with {trained.variant}, the generator that never saw {task}; give another --task"
        )
    encoder = Encoder(minilm_folder(), lm.device)
    return Cheap(encoder, trained.generator.to(lm.device), trained.aligner.to(lm.device), lm, prompts, asked)


def recipe(lm: LanguageModel, task: str, folder: Path, encoder: Encoder, checkpoints: CheckpointPreset) -> Training:
    """Return the training of one adapter by a recipe.

    Args:
        lm: the base model.
        task: a task with a train part.
        folder: an empty folder.
        encoder: not used by the training.
        checkpoints: steps, rates and batch.
    """
    preset = PRESETS["embedded"].model_copy(update={"checkpoints": checkpoints})
    return Training(Consolidation(folder, preset, 0, lambda: lm, lambda: encoder, silent), task)


def bench(cheap: Cheap, training: Training, *, repetitions: int, progress: Progress = silent) -> AdapterResult:
    """Measure both ways by turns, then count their operations.

    Args:
        cheap: from prompts to an aligned adapter.
        training: the training of one.
        repetitions: of both.
        progress: called after each.
    """
    described = machine()
    time_stages(cheap)  # loads the encoder
    made: list[dict[str, float]] = []
    trained: list[float] = []
    took = alternate(
        {
            "ours": lambda: made.append(time_stages(cheap)),
            "training": lambda: trained.append(time_training(training, whole=False)),
        },
        repetitions,
        device=cheap.lm.device,
        progress=progress,
    )
    counted, over = operations(cheap, training, progress), ratio(trained, took["ours"])
    seconds = {stage: round(value, 4) for stage, value in medians(made).items()}
    return AdapterResult(
        bench="adapter",
        machine=described,
        repetitions=repetitions,
        task=training.task,
        prompts=len(cheap.prompts),
        recipe=Recipe(steps=training.steps, batch=training.batch),
        measured_steps=training.timed,
        time_ratio=over.stated,
        noisy=["time_ratio"] * over.noisy,
        spread=over.scatter,
        flop_ratio=round(counted.ratio, 1),
        seconds={**seconds, "training": round(statistics.median(trained), 1)},
        flops=counted.flops,
    )
