"""A consolidation from beginning to end: its folder, its jobs one after the other or side by side."""

import time
from functools import partial
from pathlib import Path

from agent.loop.run_folder import locked, sweep
from agent.train.clock import Clock
from agent.train.engine.engines import check_engine, open_engine
from agent.train.engine.work import Work
from agent.train.files import read_json
from agent.train.generator.presets import Preset
from agent.train.generator.settings import Settings
from agent.train.generator.steps import Consolidation
from agent.train.generator.variants import Variant, aligned, variants
from cao.command_line import make_folder
from cao.errors import InputError
from cao.files import write_json
from cao.machine.assets import minilm_folder
from cao.machine.compute import settled
from cao.model.encoder import Encoder
from cao.model.loading import check_device, load_model
from cao.progress import Progress

Job = tuple[str, str]
"""What to do, and on which task or variant."""


def open_consolidation(settings: Settings, progress: Progress) -> Consolidation:
    """Return the consolidation of a folder; model and encoder are loaded when a step first needs them."""
    return Consolidation(
        folder=settings.folder,
        preset=settings.resolved(),
        seed=settings.seed,
        load_lm=partial(load_model, settings),
        load_encoder=lambda: Encoder(minilm_folder(), settings.device),
        progress=progress,
        files=settings.files,
    )


def stages(preset: Preset) -> list[list[Job]]:
    """Return the jobs, stage by stage; those of one stage do not need each other."""
    every, through_model_alone = variants(preset), preset.generator.reconstruction == 0
    tasks = dict.fromkeys(task for variant in every for task in variant.sources)
    collected: list[Job] = [] if through_model_alone else [("checkpoints", task) for task in preset.sources]
    unions = [("union", variant.name) for variant in every if variant.name not in preset.extra]
    return [
        [("states", task) for task in tasks],
        [*collected, *unions],
        [("generator", variant.name) for variant in every],
        [("aligner", name) for name in aligned(preset)],
    ]


def outputs(folder: Path, job: Job) -> list[Path]:
    """Return the files that are all there once a job is done."""
    kind, name = job
    if kind == "states":
        return [folder / "states" / f"{name}.safetensors"]
    if kind in ("generator", "aligner"):
        return [folder / "variants" / name / f"{kind}.safetensors"]
    return [folder / {"checkpoints": "checkpoints", "union": "unions"}[kind] / f"{name}-average.safetensors"]


def done(folder: Path, job: Job) -> bool:
    """Return whether everything that a job leaves is there."""
    return all(path.exists() for path in outputs(folder, job))


def do(consolidation: Consolidation, job: Job) -> float:
    """Do one job and return its seconds."""
    kind, name = job
    started = time.monotonic()
    if kind == "states":
        consolidation.states(name)
    elif kind == "checkpoints":
        consolidation.checkpoints(name)
    elif kind == "union":
        consolidation.union(_variant(consolidation.preset, name))
    elif kind == "generator":
        consolidation.generator(_variant(consolidation.preset, name))
    else:
        consolidation.aligner(_variant(consolidation.preset, name))
    return time.monotonic() - started


def _variant(preset: Preset, name: str) -> Variant:
    return next(variant for variant in variants(preset) if variant.name == name)


def consolidate(settings: Settings) -> Path:
    """Do whatever is not done yet and return the folder.

    Raises:
        InputError: settings that cannot be, the folder holds a consolidation with others, or another process works
            on it.
        UnavailableError: something needed is not at hand.
    """
    preset = settings.resolved()
    check_device(settings.device)
    folder = settings.folder
    path = folder / "config.json"
    begun = read_json(path, dict[str, object]) if path.exists() else {}
    settings = settings.model_copy(update={"dtype": settled(settings.dtype, settings.device, begun.get("dtype"))})
    make_folder(folder)
    with locked(folder, alone=True):
        planned = [[job for job in stage if not done(folder, job)] for stage in stages(preset)]
        jobs = [job for stage in planned for job in stage]
        if jobs:
            check_engine(settings.engine)  # before the model is loaded
        claim(settings, folder)
        if jobs:
            clock = Clock(jobs, sum(len(stage) for stage in stages(preset)), settings.workers)
            work = Work(partial(open_consolidation, settings), do, offline=settings.offline)
            with open_engine(settings.engine, settings.workers, work, progress=clock.progress) as run:
                for stage in planned:
                    for job, seconds in run(stage):
                        clock.finished(job, seconds)
        sweep(folder)
        for path in folder.rglob("*.partial"):
            path.unlink()
    return folder


def claim(settings: Settings, folder: Path) -> None:
    """Write down what this folder is for, or refuse where it is for something else.

    Raises:
        InputError: the folder was begun with other settings, or the preset does not fit the model.
    """
    wanted, path = settings.claim(), folder / "config.json"
    if path.exists():
        other = _different(read_json(path, dict[str, object]), wanted)
        if other:
            changed = f"other settings ({', '.join(other)}; see config.json)"
            raise InputError(f"{folder} was begun with {changed}; give them again, or another --out")
        return
    consolidation = open_consolidation(settings, lambda label, done, total: None)
    layout = consolidation.layout  # a preset that does not fit the model is refused before hours of work
    settings.resolved().aligner.shape(1, layout.total)
    write_json(path, wanted)


def _different(stored: object, wanted: object, where: str = "") -> list[str]:
    """Return the names of the values in which two nested mappings differ."""
    if not (isinstance(stored, dict) and isinstance(wanted, dict)):
        return [] if stored == wanted else [where]
    names = sorted({*stored, *wanted})
    return [
        other
        for name in names
        for other in _different(stored.get(name), wanted.get(name), f"{where}.{name}" if where else name)
    ]
