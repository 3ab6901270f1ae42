"""Opening a finished consolidation for measuring: from its folder alone, or one laid out from what ships.

A folder that is laid out has the generators that ship, and takes their sources' questions from the data sets, by the
same rules as their training did. What else a training leaves, such as checkpoints, it has not.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from agent.train.files import read_json
from agent.train.generator.presets import PRESETS, Preset
from agent.train.generator.settings import Claim
from agent.train.generator.steps import Consolidation
from agent.train.generator.variants import Variant, variants
from cao.errors import InputError, UnavailableError
from cao.files import canonical_json, sha256_bytes, write_atomic
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import load_language_model, load_model, resolve
from cao.model.profiles import is_place
from cao.profile_settings import ProfileSettings
from cao.progress import Progress
from cao.tasks import TASKS
from cao.tasks.same_problems import kept_from
from cao.types import DtypeChoice
from eval.code import code_of
from eval.options import TablesOptions
from tools import pretrained
from tools.generate_lora import how_to_train


def open_folder(
    folder: Path,
    *,
    model_path: str | None,
    device: str,
    dtype: DtypeChoice = "auto",
    offline: bool,
    progress: Progress,
    profile: ProfileSettings | None = None,
) -> Consolidation:
    """Return the consolidation in a folder, as its ``config.json`` states it.

    Args:
        folder: what ``agent.consolidate`` wrote.
        model_path: a folder that takes the place of the model profile's source.
        device: torch device.
        dtype: what the model computes in.
        offline: never touch the network.
        progress: called during long work.
        profile: what is set over the profile besides what the folder states.

    Raises:
        InputError: this is no consolidation's folder, or its settings cannot be read.
        UnavailableError: its model is not at hand.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder}: no consolidation's folder (no config.json); python -m agent.consolidate makes one")
    read, set_over = read_json(path, dict[str, object]), profile.model_dump(exclude_none=True) if profile else {}
    try:
        config = TypeAdapter(Claim).validate_python(read)
        preset = TypeAdapter(Preset).validate_json(canonical_json(config["preset"]))
        seed, model = config["seed"], config["model"]
        laid_over = ProfileSettings.model_validate(config.get("profile") or {}).model_copy(update=set_over)
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a consolidation's settings ({type(error).__name__})") from None
    if config.get("model_path_sha256") and not model_path and not is_place(model):
        raise InputError(f"{folder} was made with a model folder of your own; give it with --set model_path=DIR")
    found = resolve(model, laid_over, path=model_path, offline=offline)
    return Consolidation(
        folder=folder,
        preset=preset,
        seed=seed,
        load_lm=partial(load_language_model, found, path=model_path, device=device, dtype=dtype, offline=offline),
        load_encoder=lambda: Encoder(minilm_folder(), device),
        progress=progress,
    )


def open_measured(options: TablesOptions, progress: Progress) -> Consolidation:
    """Return the opened consolidation of a table's options, or what ships laid out as one.

    Raises:
        InputError: settings or a folder that cannot be used.
        UnavailableError: the model is not at hand, or nothing was trained for it.
    """
    if options.consolidation is None:
        lm = load_model(options)
        if shelf_of(options.pretrained, lm.sha256) is None:
            raise UnavailableError(f"nothing was trained for {lm.profile.name}; {how_to_train(lm.profile)}")
        return lay_out(options.pretrained, options.folder, lm, lambda: Encoder(minilm_folder(), lm.device), progress)
    return open_given(options.consolidation, options, progress)


def open_given(folder: Path, options: TablesOptions, progress: Progress) -> Consolidation:
    """Return the consolidation in a folder, computed with as a table's options say; raises as ``open_folder`` does."""
    return open_folder(
        folder,
        model_path=options.model_path,
        device=options.device,
        dtype=options.dtype,
        offline=options.offline,
        progress=progress,
        profile=options.profile,
    )


def shelf_of(folder: str | None, base_sha256: str) -> pretrained.Shelf | None:
    """Return what was trained for a base model, None where nothing was."""
    index = pretrained.read_index(pretrained.index_of(folder))
    return index.models.get(base_sha256) if index else None


def lay_out(
    parts: str | None, work: Path, lm: LanguageModel, encoder: Callable[[], Encoder], progress: Progress
) -> Consolidation:
    """Return a consolidation in a folder of its own, with the generators and aligners of trained parts.

    Args:
        parts: folder of trained parts; None for the shipped one.
        work: where the folder is made.
        lm: the base model, undressed.
        encoder: loads the encoder.
        progress: called during long work.

    Raises:
        UnavailableError: nobody knows sources for this model, or this version has others.
    """
    shelf = shelf_of(parts, lm.sha256)
    names = {str(variant.made.get("preset")) for variant in shelf.variants} if shelf else {lm.profile.preset}
    name = names.pop() if len(names) == 1 else ""
    if name not in PRESETS:
        raise UnavailableError(
            f"the sources of {lm.profile.name}'s generators are not known; {how_to_train(lm.profile)}"
        )
    preset = _fitted(PRESETS[name], lm)
    _check_sources(shelf, preset)
    seeds = {int(str(variant.made.get("seed", 0))) for variant in shelf.variants} if shelf else {0}
    hashes = {variant.name: variant.generator.sha256 for variant in shelf.variants} if shelf else {}
    code = code_of("tools.generate_lora.checkpoints")  # checkpoints and unions that are made here lie here
    about = [lm.sha256, lm.dtype, asdict(lm.profile), preset.model_dump(mode="json"), hashes, code]
    folder = work / f"sources-{sha256_bytes(canonical_json(about).encode())[:12]}"
    for variant in shelf.variants if shelf else ():
        for kind, artefact in (("generator", variant.generator), ("aligner", variant.aligner)):
            target = folder / "variants" / variant.name / f"{kind}.safetensors"
            if artefact is not None and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                index = pretrained.index_of(parts)
                write_atomic(target, pretrained.inside(index, artefact.path).read_bytes())
    folder.mkdir(parents=True, exist_ok=True)
    return Consolidation(
        folder=folder,
        preset=preset,
        seed=min(seeds),
        load_lm=lambda: lm,
        load_encoder=encoder,
        progress=progress,
    )


def _check_sources(shelf: pretrained.Shelf | None, preset: Preset) -> None:
    """Refuse generators that were trained on other sources than the preset of their name has here."""
    known = {variant.name: variant for variant in variants(preset)}
    for trained in shelf.variants if shelf else ():
        here = known.get(trained.name)
        if here is None or set(here.sources) != set(trained.sources):
            raise UnavailableError(
                f"the generator `{trained.name}` of {preset.name} was trained on other sources than this version has; "
                "give its folder: --consolidation DIR"
            )


def _fitted(preset: Preset, lm: LanguageModel) -> Preset:
    """Return the preset with a decoder that ends in what the model needs."""
    return preset.fitted(lm.lora_shapes(), lm.profile.lora_rank, lm.profile.lora_alpha)


def encode_sources(consolidation: Consolidation) -> None:
    """Encode the sources' training prompts, which say how near a task is, where that is not done."""
    sources = variants(consolidation.preset)[0].sources
    for done, task in enumerate(sources, 1):
        consolidation.states(task)
        consolidation.progress("encode sources", done, len(sources))


def serving(consolidation: Consolidation, task: str) -> Variant:
    """Return the variant whose generator never saw a task: one kept from its problems in other words too, if there is.

    Raises:
        InputError: every generator was trained on it.
    """
    every = variants(consolidation.preset)
    unseen = [variant for variant in every if kept_from(task, variant.sources, variant.leaves_out)]
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
