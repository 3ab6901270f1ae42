"""The source tasks of a table: a consolidation's folder, or one laid out from what ships.

Baselines learn from the sources of the generator that serves a task. A folder that is laid out has the generators that
ship, and takes their sources' questions from the data sets, by the same rules as their training did.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent.train.generator.presets import PRESETS, Preset
from agent.train.generator.steps import Consolidation
from agent.train.generator.variants import variants
from cao.errors import UnavailableError
from cao.files import canonical_json, sha256_bytes, write_atomic
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.progress import Progress
from eval.generation.consolidation import open_folder
from eval.generation.workshop import Workshop
from eval.options import TablesOptions
from tools import pretrained


def open_workshop(
    options: TablesOptions, work: Path, lm: LanguageModel, encoder: Callable[[], Encoder], progress: Progress
) -> Workshop:
    """Return a workshop on the sources, with a model that is loaded already.

    Args:
        options: the consolidation that they name, or the shipped parts.
        work: the table's folder.
        lm: the base model, undressed.
        encoder: loads the encoder.
        progress: called during long work.

    Raises:
        InputError: the folder is no consolidation's, or another model's.
        UnavailableError: nobody knows sources for this model.
    """
    if options.consolidation is None:
        return Workshop(_laid_out(options, work, lm, encoder, progress))
    opened = open_folder(
        options.consolidation,
        model_path=options.model_path,
        device=options.device,
        dtype=options.dtype,
        offline=options.offline,
        progress=progress,
    )
    return Workshop(replace(opened, load_lm=lambda: lm, load_encoder=encoder))


def trained_parts(options: TablesOptions) -> str | None:
    """Return the folder of trained parts that the project's own rows take; None for the shipped one."""
    return str(options.consolidation) if options.consolidation else options.pretrained


def shelf_of(folder: str | None, base_sha256: str) -> pretrained.Shelf | None:
    """Return what was trained for a base model, None where nothing was."""
    index = pretrained.read_index(pretrained.index_of(folder))
    return index.models.get(base_sha256) if index else None


def _laid_out(
    options: TablesOptions, work: Path, lm: LanguageModel, encoder: Callable[[], Encoder], progress: Progress
) -> Consolidation:
    shelf = shelf_of(options.pretrained, lm.sha256)
    names = {str(variant.made.get("preset")) for variant in shelf.variants} if shelf else {lm.profile.preset}
    name = names.pop() if len(names) == 1 else ""
    if name not in PRESETS:
        command = f"python -m agent.consolidate --model {options.model}"
        raise UnavailableError(f"the sources of {lm.profile.name}'s generators are not known; {command}")
    preset = _fitted(PRESETS[name], lm)
    _check_sources(shelf, preset)
    seeds = {int(str(variant.made.get("seed", 0))) for variant in shelf.variants} if shelf else {0}
    hashes = {variant.name: variant.generator.sha256 for variant in shelf.variants} if shelf else {}
    about = [lm.sha256, preset.model_dump(mode="json"), hashes]
    folder = work / f"sources-{sha256_bytes(canonical_json(about).encode())[:12]}"
    for variant in shelf.variants if shelf else ():
        for kind, artefact in (("generator", variant.generator), ("aligner", variant.aligner)):
            target = folder / "variants" / variant.name / f"{kind}.safetensors"
            if artefact is not None and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                index = pretrained.index_of(options.pretrained)
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
