"""The registry of known tasks: ``python -m agent.reference add NAME FILE.jsonl`` adds one's own, ``list`` shows all."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict, TypeVar

from pydantic import Field

from agent.config import settings_of
from cao.command_line import run_main
from cao.configuration import Machine, Offline, Registry
from cao.errors import InputError, UnavailableError
from cao.options import SET, Option, add_common, add_options, command_parser
from cao.progress import timed
from cao.types import Record

if TYPE_CHECKING:
    from torch import Tensor

    from cao.tasks.prompt_file import Asked

Options = TypeVar("Options", bound=Record)

_EPILOG = """A reference is a sample of at most 512 prompts of one task, as embeddings; drift is judged against all of
them. Exit status: 0 done, 2 bad input, 3 something needed is not installed."""


class Outcomes(TypedDict, total=False):
    """What is known of a reference's prompts besides their texts; see ``tools.detect_drift.known_tasks.Reference``."""

    signals: "Tensor"
    correct: "Tensor | None"
    judged_by: str


class ListOptions(Record):
    """What ``list`` takes."""

    registry: Registry = None
    offline: Offline = False


class NameOptions(ListOptions):
    """What ``show`` and ``remove`` take."""

    name: Annotated[
        str, Field(description="small letters, digits, hyphens, underscores"), Option("NAME", positional=True)
    ]


class AddOptions(Machine):
    """What ``add`` takes."""

    name: Annotated[
        str, Field(description="small letters, digits, hyphens, underscores"), Option("NAME", positional=True)
    ]
    source: Annotated[
        str,
        Field(description="a prompt or question on each line, or a task's name"),
        Option("FILE.jsonl|TASK", positional=True),
    ]
    signals: Annotated[bool, Field(description="also ask the model, for drift of its option signals")] = False
    replace: Annotated[bool, Field(description="overwrite a reference of this name")] = False
    registry: Registry = None


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    it = command_parser("agent.reference", __doc__, _EPILOG)
    verbs = it.add_subparsers(dest="verb", required=True)
    for name, (text, settings, _) in _VERBS.items():
        verb = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        add_options(verb, settings)
        add_common(verb, settable=SET)
    return it


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def body(arguments: argparse.Namespace) -> int:
        _, _, do = _VERBS[arguments.verb]
        return do(arguments)

    return run_main(parser(), body, arguments)


def _add(options: AddOptions, as_json: bool) -> int:
    from cao.machine.assets import minilm_folder  # noqa: PLC0415  (this and what follows: seconds to import)
    from cao.model.encoder import Encoder  # noqa: PLC0415
    from tools.detect_drift.known_tasks import Reference  # noqa: PLC0415
    from tools.detect_drift.reference import (  # noqa: PLC0415
        check_name,
        draw_prompts,
        group_hashes,
        user_folder,
    )
    from tools.detect_drift.reference_file import write_reference  # noqa: PLC0415

    folder = options.registry or user_folder()
    name = check_name(options.name, folder)
    path = folder / f"{name}.safetensors"
    if path.is_dir():
        raise InputError(f"{path}: is a directory; give another name")
    if path.exists() and not options.replace:
        raise InputError(f"{name!r} is registered already; give --replace to overwrite it, or another name")
    asked = draw_prompts(options.source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); choose another --registry") from None
    encoder = Encoder(minilm_folder(), options.device)
    measured = _ask(asked, options) if options.signals else _outcomes(asked)
    with timed(f"encoding {len(asked)} prompts"):
        reference = Reference(encoder.embed([one.prompt for one in asked]), **measured)
    write_reference(path, reference, encoder.sha256, Path(options.source).name, group_hashes(asked))
    _describe(name, path, as_json=as_json)
    return 0


def _ask(asked: "list[Asked]", options: AddOptions) -> Outcomes:
    """Return the model's option signals, and its outcomes where all right answers are known."""
    import torch  # noqa: PLC0415

    from cao.model.loading import load_model  # noqa: PLC0415
    from tools.detect_drift.signals import option_signals  # noqa: PLC0415

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


def _outcomes(asked: "list[Asked]") -> Outcomes:
    """Return the outcomes that came with the prompts, where all of them did."""
    import torch  # noqa: PLC0415

    outcomes = [one.correct for one in asked if one.correct is not None]
    return {"correct": torch.tensor(outcomes) if len(outcomes) == len(asked) else None}


def _list(options: ListOptions, as_json: bool) -> int:
    from tools.detect_drift.reference import registered  # noqa: PLC0415

    for name, path in registered(options.registry).items():
        try:
            _describe(name, path, as_json=as_json)
        except InputError as error:  # one damaged file hides no other
            row = {"name": name, "path": str(path), "unusable": str(error)}
            sys.stdout.write((json.dumps(row) if as_json else f"{name}: unusable, {error}") + "\n")
    return 0


def _show(options: NameOptions, as_json: bool) -> int:
    from tools.detect_drift.reference import registered  # noqa: PLC0415

    _describe(options.name, _registered(options.name, registered(options.registry)), as_json=as_json)
    return 0


def _describe(name: str, path: Path, *, as_json: bool) -> None:
    """Print what a reference holds, and what keeps it from being used.

    Raises:
        InputError: it is damaged.
    """
    from tools.detect_drift.reference_file import OTHER_ENCODER, read_info  # noqa: PLC0415

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
        sys.stdout.write(f"{name}: {info.prompts} prompts{also}, from {info.made_from}{but}\n")


@cache
def encoder_hash() -> str | None:
    """Return the hash of the encoder, None where it is not installed: references can be listed without it."""
    from cao.machine.assets import minilm_folder  # noqa: PLC0415
    from cao.model.encoder import Encoder  # noqa: PLC0415

    try:
        return Encoder(minilm_folder()).sha256
    except UnavailableError:
        return None


def _remove(options: NameOptions, as_json: bool) -> int:
    from tools.detect_drift.reference import is_shipped, registered  # noqa: PLC0415

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


Verb = tuple[str, type[Record], Callable[[argparse.Namespace], int]]


def _verb(text: str, settings: type[Options], do: Callable[[Options, bool], int]) -> Verb:
    return text, settings, lambda found: do(settings_of(settings, found, "reference"), found.json)


_VERBS: dict[str, Verb] = {
    "add": _verb("encode prompts and register them under a name", AddOptions, _add),
    "list": _verb("list the known tasks", ListOptions, _list),
    "show": _verb("say what one reference holds", NameOptions, _show),
    "remove": _verb("forget a reference of one's own", NameOptions, _remove),
}
"""Verb → what it does, what it takes, and what does it with the command line."""


if __name__ == "__main__":
    sys.exit(main())
