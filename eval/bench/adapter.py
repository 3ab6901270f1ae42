"""``adapter``: from prompts to an aligned adapter, against training one on the task by the checkpoints' whole recipe.

Models are in memory on both sides. Of the training a few steps are measured, and
multiplied out to the recipe's 75 + 50; the operations are counted in the same steps.
"""

import statistics
from pathlib import Path
from typing import Any

from agent.loop.trained import find_trained
from agent.train.generator.presets import PRESETS
from agent.train.generator.steps import Consolidation
from cao.errors import UnavailableError
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.progress import Progress, silent
from eval.bench.cost import STAGES, Cheap, Training, count, count_stages, time_training
from eval.bench.measure import Figure, alternate, machine, now, ratio
from tools.generate_lora import consolidate_command
from tools.generate_lora.checkpoints import CheckpointPreset


def cheap_way(lm: LanguageModel, task: str, prompts: list[str], asked: list[str]) -> Cheap:
    """Return the way from prompts to an adapter, with everything loaded.

    Args:
        lm: the base model.
        task: the prompts' task; the generator that never saw it is taken where there is one.
        prompts: N texts.
        asked: the same as the model reads them.

    Raises:
        UnavailableError: nothing was trained for this model.
    """
    trained = find_trained(lm.sha256, task, "auto", align=True)
    if trained.generator is None or trained.aligner is None:
        raise UnavailableError(
            f"no trained generator and aligner exist for {lm.profile.name}; run: {consolidate_command(lm.profile)}"
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


def bench(cheap: Cheap, training: Training, *, repetitions: int, progress: Progress = silent) -> dict[str, Any]:
    """Measure both ways by turns, then count their operations.

    Args:
        cheap: from prompts to an aligned adapter.
        training: the training of one.
        repetitions: of both.
        progress: told after each.
    """
    described, device = machine(), cheap.lm.device
    laps: list[dict[str, float]] = []

    def make() -> None:
        stamps = [now(device)]
        cheap.go(lambda _: stamps.append(now(device)))
        laps.append({stage: stamps[i + 1] - stamps[i] for i, stage in enumerate(STAGES)})

    make()  # loads the encoder
    laps.clear()
    trained: list[float] = []
    took = alternate(
        {"ours": make, "training": lambda: trained.append(time_training(training, whole=False))},
        repetitions,
        device=device,
        progress=progress,
    )
    stages = count_stages(cheap)[0]
    counted = count(lambda: training.go(training.measured, lambda: None))[0] / training.measured * training.steps
    progress("operations", 1, 1)
    time = ratio(trained, took["ours"])
    return {
        "bench": "adapter",
        "machine": described,
        "repetitions": repetitions,
        "task": training.task,
        "prompts": len(cheap.prompts),
        "recipe": {"steps": training.steps, "batch": training.consolidation.preset.checkpoints.batch},
        "measured_steps": max(1, training.measured - 1),
        "time_ratio": time.stated,
        "noisy": ["time_ratio"] * time.noisy,
        "spread": round(time.spread, 4),
        "flop_ratio": round(counted / stages["all"], 1),
        "seconds": {
            **{stage: round(statistics.median(lap[stage] for lap in laps), 4) for stage in STAGES},
            "all": round(statistics.median(took["ours"]), 4),
            "training": round(statistics.median(trained), 1),
        },
        "flops": {**stages, "training": counted},
    }


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures in words."""
    seconds, flops = result["seconds"], result["flops"]
    steps, batch = result["recipe"]["steps"], result["recipe"]["batch"]
    time = Figure(result["time_ratio"] or 0.0, result["spread"])
    parts = ", ".join(f"{name} {seconds[name]:.2f} s and {flops[name] / 1e9:.0f} GFLOP" for name in STAGES)
    measured = f"multiplied out from {result['measured_steps']} steps"
    return [
        ("task, prompts", f"{result['task']}, {result['prompts']}"),
        ("time ratio", time.told("{:.0f}")),
        ("operations ratio", f"{result['flop_ratio']:.0f}"),
        ("prompts → aligned adapter", f"{seconds['all']:.2f} s: {parts}"),
        (f"training, {steps} steps of {batch}", f"{seconds['training']:.0f} s, {measured}; {_tflop(flops)}"),
    ]


def _tflop(flops: dict[str, float]) -> str:
    return f"{flops['training'] / 1e12:.1f} TFLOP against {sum(flops[stage] for stage in STAGES) / 1e12:.2f}"
