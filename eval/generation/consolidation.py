"""Opening a finished consolidation for measuring: from its folder alone."""

from functools import partial
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from agent.train.files import read_json
from agent.train.generator.presets import Preset
from agent.train.generator.settings import Claim
from agent.train.generator.steps import Consolidation
from agent.train.generator.variants import Variant, variants
from cao.errors import InputError, UnavailableError
from cao.files import canonical_json
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.model.loading import load_language_model
from cao.model.profiles import MODELS
from cao.progress import Progress
from cao.tasks import TASKS
from cao.types import DtypeChoice


def open_folder(
    folder: Path, *, model_path: str | None, device: str, dtype: DtypeChoice = "auto", offline: bool, progress: Progress
) -> Consolidation:
    """Return the consolidation in a folder, as its ``config.json`` states it.

    Args:
        folder: what ``agent.consolidate`` wrote.
        model_path: a folder that takes the place of the model profile's source.
        device: torch device.
        dtype: what the model computes in.
        offline: never touch the network.
        progress: called during long work.

    Raises:
        InputError: this is no consolidation's folder, or its settings cannot be read.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder}: no consolidation's folder (no config.json); python -m agent.consolidate makes one")
    read = read_json(path, dict[str, object])
    try:
        config = TypeAdapter(Claim).validate_python(read)
        preset = TypeAdapter(Preset).validate_json(canonical_json(config["preset"]))
        seed, profile = config["seed"], MODELS[config["model"]]
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a consolidation's settings ({type(error).__name__})") from None
    if config.get("model_path_sha256") and not model_path:
        raise InputError(f"{folder} was made with a model folder of your own; give it with --set model_path=DIR")
    return Consolidation(
        folder=folder,
        preset=preset,
        seed=seed,
        load_lm=partial(load_language_model, profile, path=model_path, device=device, dtype=dtype, offline=offline),
        load_encoder=lambda: Encoder(minilm_folder(), device),
        progress=progress,
    )


def serving(consolidation: Consolidation, task: str) -> Variant:
    """Return the variant whose generator never saw a task.

    Raises:
        InputError: every generator was trained on it.
    """
    every = variants(consolidation.preset)
    unseen = [variant for variant in every if task in variant.leaves_out]
    if unseen:
        return unseen[0]
    if task in consolidation.preset.sources:
        raise InputError(f"{task} was a source of every generator in {consolidation.folder}; leave it out of --tasks")
    return every[0]


def check_finished(consolidation: Consolidation, tasks: list[str]) -> None:
    """Refuse a folder that lacks what measuring these tasks takes: generators, and the prompts that they saw.

    A control that lacks what it is made of is left out of the table instead.

    Args:
        consolidation: the opened folder.
        tasks: what will be measured.

    Raises:
        InputError: an unknown task, or one that every generator was trained on.
        UnavailableError: a step is not done; the message has the command that does it.
    """
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise InputError(f"no task is called {unknown[0]!r}; known: {', '.join(TASKS)}")
    needed = {variant.name: variant for variant in (serving(consolidation, task) for task in tasks)}
    full = variants(consolidation.preset)[0]
    needed[full.name] = full
    paths = [f"states/{task}" for task in full.sources] + [f"variants/{name}/generator" for name in needed]
    missing = [path for path in paths if not (consolidation.folder / f"{path}.safetensors").is_file()]
    if missing:
        which = f"{missing[0]}.safetensors and {len(missing) - 1} more files are" if missing[1:] else f"{missing[0]} is"
        config = read_json(consolidation.folder / "config.json", Claim)
        command = f"python -m agent.consolidate --model {config['model']} --preset {consolidation.preset.name}"
        raise UnavailableError(
            f"{consolidation.folder} is not finished ({which} missing); go on with the command that began it: {command}"
        )
