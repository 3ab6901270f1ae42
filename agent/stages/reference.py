"""The registry's verbs, as ``python -m agent.reference`` takes them."""

import json
import sys
from functools import cache
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from agent.stages.options import AddOptions, ListOptions, NameOptions
from cao.command_line import make_folder
from cao.encodings import visible
from cao.errors import InputError, UnavailableError
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.model.loading import load_model
from cao.progress import timed
from cao.tasks.prompt_file import Asked
from cao.types import Record
from tools.detect_drift.known_tasks import Reference
from tools.detect_drift.reference import check_name, draw_prompts, group_hashes, is_shipped, registered, user_folder
from tools.detect_drift.reference_file import OTHER_ENCODER, read_info, write_reference
from tools.detect_drift.signals import option_signals


class Outcomes(TypedDict, total=False):
    """What is known of a reference's prompts besides their texts; see ``tools.detect_drift.known_tasks.Reference``."""

    signals: Tensor
    correct: Tensor | None
    judged_by: str


def obey(verb: str, options: Record, *, as_json: bool) -> int:
    """Do what a verb says.

    Args:
        verb: one of the command's.
        options: what it takes.
        as_json: print an object a line.

    Raises:
        InputError: the registry, the name or the prompts cannot be used.
        UnavailableError: a model is not at hand.
    """
    if isinstance(options, AddOptions):
        return _add(options, as_json)
    if isinstance(options, NameOptions):
        return _show(options, as_json) if verb == "show" else _remove(options, as_json)
    assert isinstance(options, ListOptions), options
    return _list(options, as_json)


def _add(options: AddOptions, as_json: bool) -> int:
    folder = options.registry or user_folder()
    name = check_name(options.name, folder)
    path = folder / f"{name}.safetensors"
    if path.is_dir():
        raise InputError(f"{path}: is a directory; give another name")
    if path.exists() and not options.replace:
        raise InputError(f"{name!r} is registered already; give --replace to overwrite it, or another name")
    asked = draw_prompts(options.source)
    make_folder(folder, "--registry")
    encoder = Encoder(minilm_folder(), options.device)
    measured = _ask(asked, options) if options.signals else _outcomes(asked)
    with timed(f"encoding {len(asked)} prompts"):
        reference = Reference(encoder.embed([one.prompt for one in asked]), **measured)
    write_reference(path, reference, encoder.sha256, Path(options.source).name, group_hashes(asked))
    _describe(name, path, as_json=as_json)
    return 0


def _ask(asked: list[Asked], options: AddOptions) -> Outcomes:
    """Return the model's option signals, and its outcomes where all right answers are known."""
    examples = [one.example for one in asked if one.example is not None and one.example.choices]
    if len(examples) < len(asked):
        raise InputError(
            f"{options.source}: {len(asked) - len(examples)} prompts have no choices; --signals needs them"
        )
    lm = load_model(options)
    with timed(f"asking {options.model} {len(examples)} questions"):
        signals, correct = option_signals(examples, lm)
    known = all(one.labelled for one in asked)
    return {"signals": signals, "correct": torch.tensor(correct) if known else None, "judged_by": lm.sha256}


def _outcomes(asked: list[Asked]) -> Outcomes:
    """Return the outcomes that came with the prompts, where all of them did."""
    outcomes = [one.correct for one in asked if one.correct is not None]
    return {"correct": torch.tensor(outcomes) if len(outcomes) == len(asked) else None}


def _list(options: ListOptions, as_json: bool) -> int:
    for name, path in registered(options.registry).items():
        try:
            _describe(name, path, as_json=as_json)
        except InputError as error:  # one damaged file hides no other
            row = {"name": name, "path": str(path), "unusable": str(error)}
            sys.stdout.write((json.dumps(row) if as_json else f"{name}: unusable, {error}") + "\n")
    return 0


def _show(options: NameOptions, as_json: bool) -> int:
    _describe(options.name, _registered(options.name, registered(options.registry)), as_json=as_json)
    return 0


def _describe(name: str, path: Path, *, as_json: bool) -> None:
    """Print what a reference holds, and what keeps it from being used.

    Raises:
        InputError: it is damaged.
    """
    info = read_info(path)
    unusable = OTHER_ENCODER if encoder_hash() not in (None, info.encoder_sha256) else None
    if as_json:
        row = {"name": name, "prompts": info.prompts, "made_from": info.made_from}
        more = {"signals": info.signals, "answers": info.answers, "path": str(path), "unusable": unusable}
        sys.stdout.write(json.dumps(row | more) + "\n")
    else:
        held = [word for word, there in (("option signals", info.signals), ("outcomes", info.answers)) if there]
        also = f", {' and '.join(held)}" if held else ""
        but = f"; unusable, {unusable}" if unusable else ""
        sys.stdout.write(visible(f"{name}: {info.prompts} prompts{also}, from {info.made_from}{but}") + "\n")


@cache
def encoder_hash() -> str | None:
    """Return the hash of the encoder, None where it is not installed: references can be listed without it."""
    try:
        return Encoder(minilm_folder()).sha256
    except UnavailableError:
        return None


def _remove(options: NameOptions, as_json: bool) -> int:
    path = _registered(options.name, registered(options.registry))
    if is_shipped(path.parent):
        raise InputError(f"{options.name!r} is shipped and stays; choose the tasks you expect with --reference")
    try:
        path.unlink()
    except OSError as error:
        raise InputError(f"{path}: cannot be removed ({error.strerror})") from None
    sys.stdout.write((json.dumps({"removed": options.name}) if as_json else f"removed {options.name}") + "\n")
    return 0


def _registered(name: str, names: dict[str, Path]) -> Path:
    if name not in names:
        raise InputError(f"no reference {name!r}; registered: {', '.join(names) or 'none'}")
    return names[name]
