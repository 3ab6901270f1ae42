"""What a finished consolidation leaves: its index, its installation, and what came of it in words."""

from pathlib import Path

from pydantic import TypeAdapter

import cao
from agent.train.generator.generators import INITIAL_SEED
from agent.train.generator.own import parted
from agent.train.generator.run import open_consolidation
from agent.train.generator.settings import Settings
from agent.train.generator.variants import aligned, variants
from cao.errors import InputError
from cao.files import sealed, sha256_file, write_atomic, write_json
from tools import pretrained
from tools.align_lora.aligner import TrainedAligner
from tools.align_lora.aligner_file import load_aligner
from tools.generate_lora.generator import TrainedGenerator, load_generator
from tools.source_questions import FILE, write_questions

_LOSSES = TypeAdapter(dict[str, dict[str, float]])
"""Source → model → the answers' loss, as a generator's file says it."""


def write_index(settings: Settings, folder: Path) -> dict[str, object]:
    """Write ``index.json`` into a finished consolidation's folder and return it.

    Raises:
        InputError: a generator or an aligner is missing or damaged, or they do not belong to each other.
    """
    preset = settings.resolved()
    entries, base_sha256 = [], None
    for variant in variants(preset):
        place = folder / "variants" / variant.name
        generator = load_generator(place / "generator.safetensors", base_sha256)
        base_sha256 = generator.base_sha256
        parts: dict[str, TrainedGenerator | TrainedAligner] = {"generator": generator}
        if variant.name in aligned(preset):
            path = place / "aligner.safetensors"
            sha256 = generator.sha256
            parts["aligner"] = load_aligner(path, generator.layout, generator.initial, generator_sha256=sha256)
        made = {
            "preset": preset.name,
            "seed": settings.seed,
            "initial_seed": INITIAL_SEED,
            "encoder_sha256": generator.identity.encoder_sha256,
            "layout_sha256": generator.layout.sha256,
            "code_version": cao.__version__,
            "config_sha256": sha256_file(folder / "config.json"),
            **generator.made,
        }
        if isinstance(aligner := parts.get("aligner"), TrainedAligner):
            made["aligner"] = aligner.header.provenance
        files = {
            kind: pretrained.Artefact(path=f"variants/{variant.name}/{kind}.safetensors", sha256=part.sha256)
            for kind, part in parts.items()
        }
        entries.append(
            pretrained.Variant(
                name=variant.name,
                sources=variant.sources,
                leaves_out=variant.leaves_out,
                generator=files["generator"],
                aligner=files.get("aligner"),
                made=made,
            )
        )
    assert base_sha256 is not None
    shelf = pretrained.Shelf(
        name=settings.base.name, variants=tuple(entries), questions=_questions(settings, folder, entries)
    )
    index = sealed(pretrained.Index(format=1, models={base_sha256: shelf}).model_dump(mode="json"))
    write_json(folder / "index.json", index)
    return index


def _questions(settings: Settings, folder: Path, entries: list[pretrained.Variant]) -> pretrained.Artefact:
    """Write down, as hashes, which questions the variants were trained on."""
    snapshots = open_consolidation(settings, lambda label, done, total: None)
    names = sorted({source for entry in entries for source in entry.sources})
    prompts = {name: [example.prompt for example in parted(snapshots.examples(name))[0]] for name in names}
    return pretrained.Artefact(path=FILE, sha256=write_questions(folder / FILE, prompts))


def install(folder: Path, index: Path) -> None:
    """Copy a finished consolidation to where ``agent.run`` looks, beside what is there for other models.

    Args:
        folder: the consolidation's.
        index: the list of trained parts, which need not exist yet.

    Raises:
        InputError: it cannot be written there.
    """
    fresh = pretrained.read_index(folder / "index.json")
    assert fresh is not None
    known = pretrained.read_index(index)
    before = dict(known.models) if known else {}
    models = dict(before)
    try:
        for base_sha256, shelf in fresh.models.items():
            taken = any(other.name == shelf.name for sha256, other in before.items() if sha256 != base_sha256)
            place = f"{shelf.name}-{base_sha256[:12]}" if taken else shelf.name
            moved = [_copied(variant, folder, index.parent, f"{place}/{variant.name}") for variant in shelf.variants]
            listed = _moved(shelf.questions, folder, index.parent, place)
            models[base_sha256] = shelf.model_copy(update={"variants": tuple(moved), "questions": listed})
        write_json(index, sealed(pretrained.Index(format=1, models=models).model_dump(mode="json")))
        for path in _files(before) - _files(models):
            pretrained.inside(index, path).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{index.parent}: cannot be written ({error.strerror})") from None


def _copied(variant: pretrained.Variant, source: Path, target: Path, place: str) -> pretrained.Variant:
    """Copy a variant's files, each in one step, and return its entry with their new paths."""
    (target / place).mkdir(parents=True, exist_ok=True)
    parts: dict[str, pretrained.Artefact] = {}
    for kind, part in (("generator", variant.generator), ("aligner", variant.aligner)):
        if part is not None:
            write_atomic(target / place / f"{kind}.safetensors", (source / part.path).read_bytes())
            parts[kind] = part.model_copy(update={"path": f"{place}/{kind}.safetensors"})
    return variant.model_copy(update=parts)


def _moved(part: pretrained.Artefact | None, source: Path, target: Path, place: str) -> pretrained.Artefact | None:
    """Copy the list of questions in one step, and return its entry with its new path."""
    if part is None:
        return None
    write_atomic(target / place / FILE, (source / part.path).read_bytes())
    return part.model_copy(update={"path": f"{place}/{FILE}"})


def _files(models: dict[str, pretrained.Shelf]) -> set[str]:
    listed = [variant for shelf in models.values() for variant in shelf.variants]
    parts = [part for variant in listed for part in (variant.generator, variant.aligner)]
    parts += [shelf.questions for shelf in models.values()]
    return {part.path for part in parts if part is not None}


def summary(folder: Path, installed: Path | None = None) -> str:
    """Return what came of it, for people: how much of the checkpoints' gain each generator recovers.

    Args:
        folder: the consolidation's.
        installed: the folder of trained parts that it was put into, None where it was not.
    """
    index = pretrained.read_index(folder / "index.json")
    assert index is not None
    lines = []
    for shelf in index.models.values():
        for variant in shelf.variants:
            lines.append(f"{variant.name:<26} {_came_of(_LOSSES.validate_python(variant.made.get('validation', {})))}")
    where = f"Installed in {installed}." if installed else "Add --install to use it in agent.run."
    return "\n".join([f"{folder}:", *lines, where]) + "\n"


def _came_of(validation: dict[str, dict[str, float]]) -> str:
    """Return what a generator does on questions that nothing was trained on."""
    ratios = recovery(validation)
    if ratios:
        mean, n = sum(ratios.values()) / len(ratios), len(ratios)
        return f"recovers {mean:5.2f} of the checkpoints' gain on {n} sources"
    if any("checkpoint" in losses for losses in validation.values()):
        return "no source's checkpoint gains anything that could be recovered"
    changes = [losses["generated"] - losses["base"] for losses in validation.values()]
    if not changes:
        return "not measured"
    mean, lower = -sum(changes) / len(changes), sum(change < 0 for change in changes)
    return f"lowers the loss by {mean:.3f} nats on average, on {lower} of {len(changes)} sources"


def recovery(validation: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return (base - generated) / (base - checkpoint) of the answers' loss, for each source where the latter gains."""
    return {
        task: (losses["base"] - losses["generated"]) / (losses["base"] - losses["checkpoint"])
        for task, losses in validation.items()
        if losses["base"] > losses.get("checkpoint", losses["base"])
    }
