"""What an adapter costs: from prompts to an aligned one, against training one on the task by the preset's recipe.

Both sides run in one process, one after the other, on the models as they lie in memory; loading them and writing
files is in neither. Operations are counted apart from the timing, because counting slows what it counts.

Source: CAO-LLM C (cost accounting); the measurement is this project's.
"""

import contextlib
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from agent.train.generator.steps import INITIAL_SEED, Consolidation
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.progress import silent
from eval.bench.measure import now
from tools.align_lora.aligner import TrainedAligner
from tools.align_lora.task_vector import task_vector
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
        aligner: from a generated adapter to an aligned one.
        lm: the base model, for the task vector.
        prompts: N texts of one task.
        asked: the same as the model reads them.
    """

    encoder: Encoder
    generator: TrainedGenerator
    aligner: TrainedAligner
    lm: LanguageModel
    prompts: list[str] = field(repr=False)
    asked: list[str] = field(repr=False)

    def go(self, lap: Callable[[str], None]) -> None:
        """Make the adapter once.

        Args:
            lap: called with a stage's name when it is done.
        """
        conditioning, mask = self.encoder.condition(self.prompts)
        lap("encode")
        weights = self.generator.generate(conditioning, mask)
        lap("generate")
        vector = task_vector(self.lm, weights, self.asked, self.aligner.header.vector_prompts)
        lap("vector")
        self.aligner.align(weights, vector)
        lap("align")


class _EnoughError(Exception):
    """Ends a training after the steps that are timed."""


def time_cheap(cheap: Cheap, repetitions: int = REPETITIONS) -> dict[str, float]:
    """Return the median seconds of each stage and of all of them, after one repetition that is not counted."""
    laps: list[dict[str, float]] = []
    for _ in range(repetitions + 1):
        stamps = [now(cheap.lm.device)]
        cheap.go(lambda stage, stamps=stamps: stamps.append(now(cheap.lm.device)))  # type: ignore[misc]
        took = {stage: stamps[i + 1] - stamps[i] for i, stage in enumerate(STAGES)}
        laps.append({**took, "all": stamps[-1] - stamps[0]})
    return {stage: statistics.median(lap[stage] for lap in laps[1:]) for stage in (*STAGES, "all")}


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
        preset = self.consolidation.preset.checkpoints
        return preset.warm_steps + preset.kept_steps

    @property
    def measured(self) -> int:
        """Steps that are run: one to warm up, then those that are measured."""
        return min(1 + MEASURED_STEPS, self.steps)

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
                preset=c.preset.checkpoints,
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
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        body()
    return float(counter.get_total_flops()), sorted(str(op) for op in counter.get_flop_counts().get("Global", {}))


def count_stages(cheap: Cheap) -> tuple[dict[str, float], set[str]]:
    """Return the operations of each stage and of all of them, and the operators among which they were found."""
    totals, counter = list[float](), FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        cheap.go(lambda stage: totals.append(float(counter.get_total_flops())))
    each = {stage: totals[i] - (totals[i - 1] if i else 0.0) for i, stage in enumerate(STAGES)}
    return {**each, "all": totals[-1]}, {str(op) for op in counter.get_flop_counts().get("Global", {})}


def measure(
    cheap: Cheap, training: Training, *, whole: bool, progress: Callable[[str, int, int], None] = silent
) -> Any:
    """Return what both ways cost.

    Args:
        cheap: from prompts to an aligned adapter.
        training: the training of one.
        whole: run all of the training for its time.
        progress: told after each of the four measurements.

    Returns:
        ``prompts``, ``task``, ``steps``, ``timed_steps``, ``seconds`` and ``flops`` ({stage or ``training``: value}),
        ``repetitions``, ``operators``, ``time_ratio``, ``flop_ratio`` and ``whole``.
    """
    seconds = time_cheap(cheap)
    progress("cost", 1, 4)
    seconds["training"] = time_training(training, whole=whole)
    progress("cost", 2, 4)
    stages, seen = count_stages(cheap)
    progress("cost", 3, 4)
    counted, operators = count(lambda: training.go(training.measured, lambda: None))
    stages["training"] = counted / training.measured * training.steps
    progress("cost", 4, 4)
    return {
        "task": training.task,
        "prompts": len(cheap.prompts),
        "vector_prompts": cheap.aligner.header.vector_prompts,
        "steps": training.steps,
        "batch": training.consolidation.preset.checkpoints.batch,
        "whole": whole,
        "timed_steps": training.steps if whole else max(1, training.measured - 1),
        "counted_steps": training.measured,
        "repetitions": REPETITIONS,
        "seconds": seconds,
        "flops": stages,
        "operators": sorted(seen | set(operators)),
        "time_ratio": seconds["training"] / seconds["all"],
        "flop_ratio": stages["training"] / stages["all"],
    }
