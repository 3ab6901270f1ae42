"""What a consolidation would do and take, in hours and memory, before anything is computed (``--dry-run``)."""

import json
import sys
from collections import defaultdict
from typing import TypedDict

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from agent.budget.plan import ACCELERATOR_RATE, USEFUL_SHARE
from agent.train.generator.effort import Efforts
from agent.train.generator.own import added, check_shared
from agent.train.generator.presets import PRESETS
from agent.train.generator.run import done, stages
from agent.train.generator.settings import Settings
from agent.train.generator.variants import aligned
from cao.machine.compute import Compute, choose_compute
from cao.model.memory import BYTES, LIBRARIES, available, in_words

CORES = 2
TRAINING_SHARE = 0.5
"""What training through the model reaches of the rate of products on two cores: .55 on idle ones, .2 beside others."""
FEWEST_TOKENS = 64
"""Tokens of a training question where they are few; the preset's ``row_tokens`` is the most."""
KINDS = {
    "states": "encode the prompts",
    "checkpoints": "a source's checkpoints",
    "union": "one adapter for all sources",
    "generator": "generators",
    "aligner": "aligners",
}
"""Kind of job → what it is called here."""


class Part(TypedDict):
    """The jobs of one kind; hours and bytes as the least and the most."""

    jobs: int
    hours_cpu: list[float]
    hours_gpu: list[float]
    memory: list[float]


class Plan(TypedDict):
    """What ``--dry-run --json`` prints; hours and bytes as the least and the most.

    Attributes:
        rates: operations a second of two cores, by number format, and what a GPU is credited with reaching.
        shares: what two cores reach of them, through the model and in the parts that are trained.
        done: jobs that an earlier call finished.
        own: what each of the user's files adds; see ``Added``.
        memory: of the largest job, the model's weights and the libraries included.
    """

    preset: str
    model: str
    dtype: str
    folder: str
    sources: int
    tokens: list[float]
    rates: dict[str, float]
    shares: dict[str, float]
    done: int
    parts: dict[str, Part]
    hours_cpu: list[float]
    hours_gpu: list[float]
    memory: list[float]
    memory_available: int
    own: dict[str, dict[str, JsonValue]]


def plan(settings: Settings) -> Plan:
    """Return the plan of what is left to do.

    Raises:
        InputError: settings that cannot be, or a source that shares its questions with a reported task.
        UnavailableError: the device, a folder or a source is not there.
    """
    preset, base = settings.resolved(), settings.base
    given = {*preset.sources} - {*PRESETS[preset.name].sources, *settings.files}
    check_shared(sorted(given))
    compute = choose_compute(settings.dtype, settings.device)
    rates = _rates(compute)
    every = [job for stage in stages(preset) for job in stage]
    jobs = [job for job in every if not done(settings.folder, job)]
    tokens = [float(min(FEWEST_TOKENS, preset.row_tokens)), float(preset.row_tokens)]
    size = BYTES[compute.dtype]
    parts: dict[str, Part] = {}
    for kind in KINDS:
        of_kind = [job for job in jobs if job[0] == kind]
        if not of_kind:
            continue
        hours: dict[str, list[float]] = defaultdict(list)
        memory = []
        for each in tokens:
            efforts = [Efforts(preset, base, each, size).of(job) for job in of_kind]
            model, single = sum(effort.model for effort in efforts), sum(effort.single for effort in efforts)
            cpu = model / (TRAINING_SHARE * rates["cpu_model"]) + single / (USEFUL_SHARE * rates["cpu_float32"])
            hours["cpu"].append(cpu / 3600)
            hours["gpu"].append((model + single) / rates["gpu"] / 3600)
            weights = 0.0 if kind == "states" else float(size * base.parameters)
            memory.append(LIBRARIES + weights + max(effort.memory for effort in efforts))
        parts[kind] = Part(jobs=len(of_kind), hours_cpu=hours["cpu"], hours_gpu=hours["gpu"], memory=sorted(memory))
    return Plan(
        preset=preset.name,
        model=base.name,
        dtype=compute.dtype,
        folder=str(settings.folder),
        sources=len(preset.sources),
        tokens=tokens,
        rates=rates,
        shares={"cpu_model": TRAINING_SHARE, "cpu_float32": USEFUL_SHARE},
        done=len(every) - len(jobs),
        parts=parts,
        hours_cpu=[sum(part["hours_cpu"][i] for part in parts.values()) for i in range(2)],
        hours_gpu=[sum(part["hours_gpu"][i] for part in parts.values()) for i in range(2)],
        memory=[max((part["memory"][i] for part in parts.values()), default=0.0) for i in range(2)],
        memory_available=available(),
        own={name: it.model_dump() for name, it in added(settings.files, preset.checkpoints.samples).items()},
    )


def _rates(compute: Compute) -> dict[str, float]:
    """Return operations a second: of two cores by this processor's measured rates, and of a GPU as it is credited."""
    measured = compute.rates or choose_compute("auto", "cpu").rates
    assert measured is not None
    cores = CORES / compute.threads
    return {
        "cpu_model": cores * float(getattr(measured, compute.dtype)),
        "cpu_float32": cores * measured.float32,
        "gpu": ACCELERATOR_RATE,
    }


def _range(values: list[float], form: str = "{:.1f}") -> str:
    low, high = (form.format(value) for value in values)
    return low if low == high else f"{low} to {high}"


def _memory(values: list[float]) -> str:
    low, high = (in_words(round(value)) for value in values)
    return low if low == high else f"{low} to {high}"


def _assumed(content: Plan) -> str:
    """Say what the figures are reckoned with."""
    rates, shares, dtype = content["rates"], content["shares"], content["dtype"]
    of_model = "" if dtype == "float32" else f"{rates['cpu_model'] / 1e9:.0f} GFLOP/s in {dtype}, "
    return (
        f"Two cores: {of_model}{rates['cpu_float32'] / 1e9:.0f} GFLOP/s in float32, "
        f"measured on this processor and reckoned for {CORES} threads; training through the model reaches "
        f"{shares['cpu_model']:.0%}, the parts that are trained {shares['cpu_float32']:.0%}. One GPU: "
        f"{rates['gpu'] / 1e12:.0f} TFLOP/s reached, an assumption. Training questions of "
        f"{_range(content['tokens'], '{:.0f}')} tokens. {in_words(content['memory_available'])} of memory are free."
    )


def print_plan(settings: Settings, *, as_json: bool) -> None:
    """Print the plan on standard output, as one JSON object or for people."""
    content = plan(settings)
    if as_json:
        sys.stdout.write(json.dumps(content) + "\n")
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    title = f"plan: preset {content['preset']} for {content['model']}, in {content['folder']}"
    console.print(title, soft_wrap=True)
    table = Table("", "jobs", "hours, two cores", "hours, one GPU", "memory")
    for kind, part in content["parts"].items():
        hours = (_range(part["hours_cpu"]), _range(part["hours_gpu"], "{:.2f}"))
        table.add_row(KINDS[kind], str(part["jobs"]), *hours, _memory(part["memory"]))
    whole = (_range(content["hours_cpu"]), _range(content["hours_gpu"], "{:.2f}"))
    table.add_row("in all", str(sum(p["jobs"] for p in content["parts"].values())), *whole, _memory(content["memory"]))
    console.print(table)
    if "aligner" not in content["parts"] and not aligned(settings.resolved()):
        console.print("No aligner: one of gains is trained across folds, a Fusion VAE towards checkpoints.")
    console.print(_assumed(content))
    for name, it in content["own"].items():
        console.print(
            f"{name}, of {it['file']}: {it['questions']} questions with choices, {it['trained']} to train on, "
            f"{it['measured']} only to measure on, {it['left_out']} left out.",
            soft_wrap=True,
        )
    if content["done"]:
        console.print(f"{content['done']} jobs are done already and not counted.")
    console.print("Nothing was computed. Run the same command without --dry-run.")
