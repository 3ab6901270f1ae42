"""What a second worker is worth: independent scoring cells on one worker and on two, by turns."""

from typing import Any

from agent.train.engine.settings import EngineSettings
from eval.bench.measure import machine, ratio
from eval.bench.throughput import Plan, throughput


def bench(plan: Plan, kind: str) -> dict[str, Any]:
    """Measure it.

    Args:
        plan: model, task, cells and repetitions.
        kind: the engine.

    Raises:
        InputError: an unknown model or task, or too few questions.
        UnavailableError: the engine, the model or the data are not at hand.
    """
    described = machine()
    found = throughput(EngineSettings.model_validate({"kind": kind}), plan)
    gained = ratio(found["seconds"]["1"], found["seconds"]["2"])
    told = {"ratio": gained.stated, "spread": round(gained.spread, 4), "noisy": ["ratio"] * gained.noisy}
    return {**found, **told, "machine": described, "repetitions": plan.repetitions}


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures in words."""
    gained, cpu = ratio(result["seconds"]["1"], result["seconds"]["2"]), result["cpu_seconds"]
    cost = ratio(cpu["2"], cpu["1"])
    return [
        ("engine", f"{result['engine']}, one thread a worker"),
        ("cells", f"{result['cells']} of {result['questions']} questions of {result['task']}, {result['model']}"),
        ("two workers over one", gained.told()),
        ("processor time of the cells, two workers over one", cost.told()),
        ("same answers", "yes" if result["equal"] else "no"),
    ]
