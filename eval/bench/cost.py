"""What an adapter costs: from prompts to an aligned one, against training one on the task by the preset's recipe.

Both sides run in one process, one after the other here and by turns in ``eval.bench.adapter``, on the models as they
lie in memory; loading them and writing files is in neither. Operations are counted apart from the timing, because
counting slows what it counts.

Source: CAO-LLM C (cost accounting); the measurement is this project's.
"""

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from agent.train.generator.generators import INITIAL_SEED
from agent.train.generator.steps import Consolidation
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.progress import Progress, silent
from cao.types import Record
from eval.bench.flops import counting
from eval.bench.measure import now
from tools.align_lora.aligner import TrainedAligner
from tools.align_lora.task_vector import condition
from tools.generate_lora.checkpoints import collect
from tools.generate_lora.generator import TrainedGenerator

REPETITIONS = 5
MEASURED_STEPS = 8
"""Steps of a training that are run and multiplied out."""
STAGES = ("encode", "generate", "vector", "align")


@dataclass(frozen=True)
class Cheap:
    """The way from prompts to an aligned adapter.

    Attributes:
        encoder: the frozen encoder.
        generator: from token states to an adapter.
        aligner: from a generated adapter to an aligned one; None where the generated one is used as it is.
        lm: the base model, for the task vector.
        prompts: N texts of one task.
        asked: the same as the model reads them.
    """

    encoder: Encoder
    generator: TrainedGenerator
    aligner: TrainedAligner | None
    lm: LanguageModel
    prompts: list[str] = field(repr=False)
    asked: list[str] = field(repr=False)

    @property
    def stages(self) -> tuple[str, ...]:
        """Its stages, in order."""
        return STAGES if self.aligner else STAGES[:2]

    def go(self, lap: Callable[[str], None]) -> None:
        """Make the adapter once.

        Args:
            lap: called with a stage's name when it is done.
        """
        conditioning, mask = self.encoder.condition(self.prompts)
        lap("encode")
        weights = self.generator.generate(conditioning, mask)
        lap("generate")
        if self.aligner is None:
            return
        limit, whole = self.aligner.header.vector_prompts, self.aligner.reads_base_state
        vector = condition(self.lm, weights, self.asked, limit, with_base_state=whole)
        lap("vector")
        self.aligner.align(weights, vector)
        lap("align")


class _EnoughError(Exception):
    """Ends a training after the steps that are timed."""


def time_stages(cheap: Cheap) -> dict[str, float]:
    """Make the adapter once and return the seconds of each stage and of all of them."""
    stamps = [now(cheap.lm.device)]
    cheap.go(lambda _: stamps.append(now(cheap.lm.device)))
    laps = {stage: stamps[i + 1] - stamps[i] for i, stage in enumerate(cheap.stages)}
    return {**laps, "all": stamps[-1] - stamps[0]}


def medians(repeated: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each stage, and of all of them, over repetitions."""
    return {stage: statistics.median(once[stage] for once in repeated) for stage in repeated[0]}


@dataclass(frozen=True)
class Training:
    """The training of one adapter by the preset's recipe.

    Attributes:
        consolidation: its preset, model and questions.
        task: a source.
    """

    consolidation: Consolidation
    task: str

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.consolidation.preset.checkpoints.steps

    @property
    def measured(self) -> int:
        """Steps that are run: one to warm up, then those that are measured."""
        return min(1 + MEASURED_STEPS, self.steps)

    @property
    def timed(self) -> int:
        """Steps that are measured for the time."""
        return max(1, self.measured - 1)

    @property
    def batch(self) -> int:
        """Questions a step."""
        return self.consolidation.preset.checkpoints.batch

    def go(self, steps: int, lap: Callable[[], None]) -> None:
        """Train.

        Args:
            steps: how far; the schedule of the questions is that of the whole training.
            lap: called after each step.
        """

        def progress(_: str, done: int, total: int) -> None:
            lap()
            if done == steps < total:
                raise _EnoughError

        c = self.consolidation
        with contextlib.suppress(_EnoughError):
            collect(
                c.lm,
                c.rows(self.task)[0],
                c.layout,
                preset=c.preset.checkpoints.model_copy(update={"patience": 0}),
                initial_seed=INITIAL_SEED,
                seed=c.seed_for(f"checkpoints/{self.task}"),
                progress=progress,
            )


def time_training(training: Training, *, whole: bool) -> float:
    """Return the seconds of the whole training.

    Args:
        training: what to time.
        whole: run all of it; else its first steps are timed and their mean is multiplied by the number of steps.
    """
    device, stamps = training.consolidation.lm.device, list[float]()
    started = now(device)
    training.go(training.steps if whole else training.measured, lambda: stamps.append(now(device)))
    if whole:
        return now(device) - started
    before = stamps[0] if len(stamps) > 1 else started  # the first step is warming up, where there are others
    return (stamps[-1] - before) / max(1, len(stamps) - 1) * training.steps


def count(body: Callable[[], None]) -> tuple[float, list[str]]:
    """Return the floating-point operations of a piece of work, and the operators among which they were found.

    Attention is computed as plain matrix products meanwhile: the fused one of a CPU is not counted by torch.
    """
    with sdpa_kernel(SDPBackend.MATH), counting() as counter:
        body()
    return float(counter.get_total_flops()), _operators(counter)


def _operators(counter: FlopCounterMode) -> list[str]:
    return sorted(str(operator) for operator in counter.get_flop_counts().get("Global", {}))


@dataclass(frozen=True)
class Operations:
    """The floating-point operations of both ways.

    Attributes:
        flops: of each stage, of ``all`` of them, and of the whole ``training``.
        operators: among which they were found.
    """

    flops: dict[str, float]
    operators: list[str]

    @property
    def ratio(self) -> float:
        """Training over making."""
        return self.flops["training"] / self.flops["all"]


def operations(cheap: Cheap, training: Training, progress: Progress = silent) -> Operations:
    """Count both ways; a training's first steps are counted and multiplied out.

    Args:
        cheap: from prompts to an aligned adapter.
        training: the training of one.
        progress: called after each of the two.
    """
    totals, counter = list[float](), counting()
    with sdpa_kernel(SDPBackend.MATH), counter:
        cheap.go(lambda _: totals.append(float(counter.get_total_flops())))
    stages = {stage: totals[i] - (totals[i - 1] if i else 0.0) for i, stage in enumerate(cheap.stages)}
    progress("operations", 1, 2)
    trained, operators = count(lambda: training.go(training.measured, lambda: None))
    progress("operations", 2, 2)
    return Operations(
        {**stages, "all": totals[-1], "training": trained / training.measured * training.steps},
        sorted({*_operators(counter), *operators}),
    )


class Cost(Record):
    """What an adapter costs, made and trained.

    Attributes:
        task: whose adapter.
        prompts: that it is made from.
        vector_prompts: of them, that the task vector is taken from; 0 where nothing is aligned.
        steps: of the whole training.
        batch: questions a step.
        whole: whether all of the training was timed.
        timed_steps: steps that were.
        counted_steps: steps whose operations were counted.
        repetitions: of making.
        seconds: stage, ``all`` or ``training`` → seconds.
        flops: the same → operations.
        operators: among which operations were found.
        time_ratio: training over making.
        flop_ratio: the same of operations.
    """

    task: str
    prompts: int
    vector_prompts: int
    steps: int
    batch: int
    whole: bool
    timed_steps: int
    counted_steps: int
    repetitions: int
    seconds: dict[str, float]
    flops: dict[str, float]
    operators: list[str]
    time_ratio: float
    flop_ratio: float


def measure(cheap: Cheap, training: Training, *, whole: bool, progress: Progress = silent) -> Cost:
    """Return what both ways cost.

    Args:
        cheap: from prompts to an aligned adapter; made once without being counted.
        training: the training of one.
        whole: run all of the training for its time.
        progress: called after each of the measurements.
    """
    seconds = medians([time_stages(cheap) for _ in range(REPETITIONS + 1)][1:])
    progress("seconds", 1, 2)
    seconds["training"] = time_training(training, whole=whole)
    progress("seconds", 2, 2)
    counted = operations(cheap, training, progress)
    return Cost(
        task=training.task,
        prompts=len(cheap.prompts),
        vector_prompts=cheap.aligner.header.vector_prompts if cheap.aligner else 0,
        steps=training.steps,
        batch=training.batch,
        whole=whole,
        timed_steps=training.steps if whole else training.timed,
        counted_steps=training.measured,
        repetitions=REPETITIONS,
        seconds=seconds,
        flops=counted.flops,
        operators=counted.operators,
        time_ratio=seconds["training"] / seconds["all"],
        flop_ratio=counted.ratio,
    )
