"""Opening what was handed over, a run's folder or an exported one, as a model that answers.

Both are read as hostile input: nothing outside the folder is opened but the base model, and every file is checked.
"""

import os
from pathlib import Path

import torch
from pydantic import ValidationError

from agent.handover.model import Model
from agent.handover.options import LoadOptions
from agent.handover.settings import CAO_FILE, Handed, handed_of, inside, read_handed
from agent.record.answering import read_answering
from agent.record.commands import resume_command
from agent.record.reading import read_run
from agent.record.runs import is_run
from agent.record.schema import RunRecord
from agent.record.wording import one_line
from cao.configuration import Machine, explain
from cao.errors import InputError
from cao.machine.assets import minilm_folder
from cao.model.adapters import LoraWeights, adapter_sha256
from cao.model.encoder import CHANNELS, Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.model.profiles import MODELS
from cao.model.soft_prompt.either import load_carried, reference
from cao.model.start_adapter import attach_adapter
from cao.sealed import not_finite, read_tensors
from cao.types import CONFIG_FILE, AdaptedModel, AdapterRef, AnswerRule


def open_model(options: LoadOptions) -> Model:
    """Return the model of a run's folder, or of a folder that export wrote.

    Args:
        options: the folder, and on what the base model is loaded.

    Raises:
        InputError: the folder is neither, it is damaged, or the base model is another one.
        UnavailableError: the base model is not at hand.
    """
    folder = Path(os.path.abspath(options.folder))
    handed, config = _handed(folder)
    machine, start_adapter = _machine(options, handed, config, folder)
    lm = load_model(machine)
    carried = attach_adapter(lm, Path(start_adapter)) if start_adapter else None
    _refuse_other_base(handed, folder, lm)
    return opened(_carrying(handed, carried), folder, lm, Encoder(minilm_folder(), machine.device))


def open_beside(folder: Path, lm: LanguageModel, encoder: Encoder, carried: LoraWeights | None) -> Model:
    """Return the model of a run's folder, or of an exported one, on a base model that is loaded already.

    Args:
        folder: the run's, or the exported one.
        lm: the base model, which several models may share.
        encoder: the frozen encoder.
        carried: the adapter that the deployed model carries.

    Raises:
        InputError: the folder is neither, it is damaged, or it was made with other weights.
    """
    folder = Path(os.path.abspath(folder))
    handed, _ = _handed(folder)
    if handed.merged:
        raise InputError(f"{folder}: has a base model of its own; give the folder that it was merged from")
    _refuse_other_base(handed, folder, lm)
    return opened(_carrying(handed, carried), folder, lm, encoder)


def _handed(folder: Path) -> tuple[Handed, dict[str, object]]:
    """Return what of a folder's model is no weights, and the run's configuration where the folder is a run's."""
    if (folder / CAO_FILE).is_file():
        return read_handed(folder), {}
    run = _finished(folder)
    return handed_of_run(run, folder), {**run.config, "dtype": run.dtype}


def _refuse_other_base(handed: Handed, folder: Path, lm: LanguageModel) -> None:
    if lm.sha256 != handed.base_sha256:
        raise InputError(
            f"{lm.source}: holds other weights than {folder} was made with ({lm.sha256[:12]} and not "
            f"{handed.base_sha256[:12]}); give the base model with model= or model_path=, and with start_adapter= what "
            "was put on it before"
        )


def deployed_or_adopted(
    run: RunRecord, folder: Path, lm: LanguageModel, encoder: Encoder, carried: LoraWeights | None
) -> Model:
    """Return the model that a finished run leaves, where what it worked with is loaded.

    Args:
        run: its record.
        folder: its folder.
        lm: the base model.
        encoder: the frozen encoder.
        carried: the adapter that the deployed model carries.

    Raises:
        InputError: a file of the folder was changed.
    """
    return opened(_carrying(handed_of_run(run, folder), carried), folder, lm, encoder)


def _carrying(handed: Handed, carried: LoraWeights | None) -> Handed:
    """Return what is handed over of a deployed model that carries an adapter: it lies in the run's own store."""
    if carried is None or handed.members != (None,):
        return handed
    return handed.model_copy(update={"members": (f"adapters/{adapter_sha256(carried)}",)})


def opened(handed: Handed, folder: Path, lm: LanguageModel, encoder: Encoder) -> Model:
    """Return the model of a folder whose base model is loaded; every file of it is checked.

    Args:
        handed: what of the model is no weights.
        folder: where its adapters lie.
        lm: the base model.
        encoder: by which questions are routed, where they are.

    Raises:
        InputError: an adapter or the routes cannot be used.
    """
    members = tuple(member if member is None else _adapter(folder, member, lm) for member in handed.members)
    adapted = AdaptedModel(
        members=members,
        method=handed.method if len(members) > 1 else None,
        centroids=_routes(folder, handed.routes, len(members)) if handed.routes else None,
        latent=handed.latent,
        answer_rule=handed.answer_rule or AnswerRule(),
    )
    return Model(handed, folder, adapted, lm, encoder)


def handed_of_run(run: RunRecord, folder: Path) -> Handed:
    """Return what a finished run hands over: what it adopted, else the deployed model by its own best answer rule."""
    adopted = run.adopted
    if adopted is None:
        return handed_of(run, None, (None,), None, read_answering(folder), run.reward.answer_rules.get("baseline"))
    if adopted.together:
        members, routes = adopted.together.adapters, adopted.together.routes
    else:
        members, routes = (adopted.adapter.path if adopted.adapter else None,), None
    return handed_of(run, adopted, members, routes, read_answering(folder))


def _finished(folder: Path) -> RunRecord:
    """Return the record of a finished run."""
    if (folder / CONFIG_FILE).is_file():
        raise InputError(
            f"{folder}: is an adapter alone, and not what a run hands over: PEFT loads it, "
            "python -m eval.score --adapter measures it, and a run begins from it with --set start_adapter=DIR"
        )
    if not is_run(folder):
        raise InputError(
            f"{folder}: is neither a run's folder nor one that export wrote (no run.json, no {CAO_FILE}); "
            "write one with: cao export RUN --to DIR"
        )
    if not (folder / "run.json").is_file():
        raise InputError(f"{folder}: this run has not ended; go on with: {resume_command(folder.name, folder.parent)}")
    run = read_run(folder)
    if not isinstance(run, RunRecord):
        raise InputError(f"{folder / 'run.json'}: was written by a version too old to be loaded; do the run again")
    return run


def _machine(
    options: LoadOptions, handed: Handed, config: dict[str, object], folder: Path
) -> tuple[Machine, str | None]:
    """Return how the base model is loaded, and the adapter that it carries: as in the run, unless told otherwise."""
    told = options.model_dump(include=set(Machine.model_fields), exclude_unset=True)
    own: dict[str, object] = {"model": handed.base_model, "profile": handed.profile}
    own |= {key: config[key] for key in ("device", "dtype") if config.get(key)}
    place = {"model_path": str(folder) if handed.merged else config.get("model_path")}
    if handed.merged and handed.base_model not in MODELS:  # a folder of its own, wherever the base model lay
        own, place = {**own, "model": str(folder)}, {}
    place = {} if {"model", "model_path"} & set(told) else place
    start_adapter = options.start_adapter or config.get("start_adapter")
    try:
        machine = Machine.model_validate({**own, **place, **told})
    except ValidationError as error:
        raise InputError(f"{folder}: {one_line(explain(error), 200)}") from None
    return machine, str(start_adapter) if start_adapter else None


def _adapter(folder: Path, name: str, lm: LanguageModel) -> AdapterRef:
    path = inside(folder, name, CAO_FILE if (folder / CAO_FILE).is_file() else "run.json")
    weights = load_carried(path, lm.sha256)
    lm.check_fit(weights)
    return reference(str(path), weights, lm.sha256)


def _routes(folder: Path, name: str, members: int) -> str:
    """Return the file of the routes, which holds a place for each member."""
    path = inside(folder, name, CAO_FILE)
    _, tensors = read_tensors(path)
    (places,) = tensors.values() if len(tensors) == 1 else (torch.zeros(0),)
    if places.ndim not in (2, 3) or places.shape[0] != members or places.shape[-1] != CHANNELS or not_finite(tensors):
        raise InputError(f"{path}: damaged; it holds no routes to {members} adapters")
    return str(path)
