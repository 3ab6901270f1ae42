"""Stages 1 and 2 alone: ``python -m agent.generate --prompts FILE.jsonl --out DIR`` makes an adapter from prompts.

One forward pass makes it, a second one aligns it; nothing is trained and no gradient is taken.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

from pydantic import Field

from agent.config import settings_of
from cao.command_line import run_main
from cao.configuration import Machine, Pretrained, Variant
from cao.errors import InputError, UnavailableError
from cao.model.profiles import find_profile
from cao.options import SET, Option, add_common, add_options, command_parser

if TYPE_CHECKING:
    from agent.loop.trained import Trained
    from cao.model.language_model import LanguageModel
    from cao.tasks.prompt_file import Asked
    from cao.types import AdapterRef

MAX_PROMPTS = 5000
"""As many as a run takes for its support part; their token states fill 0.6 MB each."""

_TEMPORARY = ".generated."
_EPILOG = """Each line of the prompts file is a text, an object with 'prompt', 'question', 'content' or 'messages' (and
perhaps 'context'), or a JSON list of these. DIR becomes a folder in PEFT format. Exit status: 0 made; 2 bad input;
3 something needed is not available (with the command that provides it); 1 a defect."""


class GenerateOptions(Machine):
    """What the command takes."""

    prompts: Annotated[Path, Field(description="prompts of one task, no answers"), Option("FILE.jsonl")]
    out: Annotated[Path, Field(description="folder of the adapter, in PEFT format"), Option("DIR")]
    overwrite: Annotated[bool, Field(description="replace an earlier adapter of this command in DIR")] = False
    no_align: Annotated[bool, Field(description="stop after the generator")] = False
    variant: Variant = "auto"
    pretrained: Pretrained = None


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    it = command_parser("agent.generate", __doc__, _EPILOG)
    add_options(it, GenerateOptions)
    add_common(it, config=True, settable=SET)
    return it


class Making(TypedDict):
    """What came of making an adapter: how it was made, seconds for each part, its caveats, and of how many prompts."""

    aligned: bool
    variant: str | None
    sources: list[str]
    seconds: dict[str, float]
    caveats: list[str]
    n: int


class Made(Making):
    """The object of ``--json``: where the adapter lies, and what came of making it."""

    adapter: dict[str, str]


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_main(
        parser(), lambda parsed: _make(settings_of(GenerateOptions, parsed, "generate"), as_json=parsed.json), arguments
    )


def _make(options: GenerateOptions, *, as_json: bool) -> int:
    profile = find_profile(options.model)
    check_out(options.out, overwrite=options.overwrite)
    prompts = read_prompts(options.prompts)

    from agent.loop.trained import find_trained  # noqa: PLC0415  (this and what follows: seconds to import)
    from cao.model.loading import load_model  # noqa: PLC0415
    from tools.generate_lora import consolidate_command  # noqa: PLC0415

    lm = load_model(options)
    trained = find_trained(lm.sha256, None, options.variant, align=not options.no_align, folder=options.pretrained)
    command = consolidate_command(profile)
    if trained.generator is None:
        raise UnavailableError(f"no trained generator exists for the base model {options.model}; run: {command}")
    if trained.aligner is None and not options.no_align:
        sys.stderr.write(f"note: no aligner was trained behind this generator; {command} would train one\n")
    with _workplace(options.out) as folder:
        reference, making = make_adapter(prompts, lm, trained, folder, options.device)
        for name in sorted(os.listdir(reference.path), reverse=True):  # each in one step, the weights first
            os.replace(Path(reference.path) / name, options.out / name)
    result: Made = {"adapter": {"path": str(options.out), "sha256": reference.sha256}, **making}
    sys.stdout.write((json.dumps(result, ensure_ascii=False) if as_json else sentence(result)) + "\n")
    return 0


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """Make the folder of the adapter, and one in it for what is on its way there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        place = tempfile.TemporaryDirectory(dir=out, prefix=_TEMPORARY)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None
    with place as folder:
        yield Path(folder)


def make_adapter(
    asked: "list[Asked]", lm: "LanguageModel", trained: "Trained", folder: Path, device: str = "cpu"
) -> tuple["AdapterRef", Making]:
    """Make an adapter from prompts: encode, generate and, where there is an aligner, align.

    Args:
        asked: prompts of one task.
        lm: the base model.
        trained: the parts to use, a generator among them.
        folder: where the files go.
        device: where the encoder runs.

    Returns:
        The adapter, and ``aligned``, ``variant``, ``sources``, ``seconds``, ``caveats`` and ``n``.

    Raises:
        InputError: no prompt is left to condition on.
    """
    from cao.machine.assets import minilm_folder  # noqa: PLC0415  (this and what follows: seconds to import)
    from cao.model.encoder import Encoder  # noqa: PLC0415
    from tools.align_lora import align_lora  # noqa: PLC0415
    from tools.generate_lora import generate_lora  # noqa: PLC0415

    encoder = Encoder(minilm_folder(), device)
    encoder.tokens([""])  # loads it, which is not part of the encoding
    clock = [time.monotonic()]
    generated = generate_lora(
        [one.prompt for one in asked],
        lm=lm,
        store=folder,
        encoder=encoder,
        generator=trained.generator,
        lap=lambda part: clock.append(time.monotonic()),
    )
    assert generated.adapter is not None, generated.reason
    reference, aligned, caveats = generated.adapter, False, list(generated.caveats)
    if trained.aligner is not None:
        forms = [asked[i].form(lm.profile.answer_style) for i in generated.kept]
        result = align_lora(reference, forms, lm=lm, store=folder, aligner=trained.aligner)
        reference, aligned = result.adapter or reference, result.adapter is not None
        caveats += [result.reason] if result.reason else []
    clock.append(time.monotonic())
    seconds = [round(end - start, 4) for start, end in pairwise(clock)]
    return reference, {
        "aligned": aligned,
        "variant": trained.variant,
        "sources": list(trained.sources),
        "seconds": dict(zip(("encode", "generate", "align"), seconds, strict=True)),
        "caveats": caveats,
        "n": len(generated.kept),
    }


def sentence(result: Made) -> str:
    """Return the outcome for people.

    Args:
        result: the object of ``--json``.
    """
    from agent.record.wording import count  # noqa: PLC0415  (pydantic; arguments come first)

    kind = "an aligned" if result["aligned"] else "a generated"
    seconds = result["seconds"]
    spent = ", ".join(f"{name} {seconds[name]:.2f} s" for name in seconds if name != "align" or result["aligned"])
    about = f"{kind} adapter from {count(result['n'], 'prompt')} by generator “{result['variant']}” ({spent})"
    lines = [f"{result['adapter']['path']}: {about}.", *(f"Note: {caveat}." for caveat in result["caveats"])]
    return "\n".join(lines)


def read_prompts(path: Path) -> "list[Asked]":
    """Return the prompts of a file, all of its lines checked before anything is computed.

    Args:
        path: a line is a prompt or a JSON list of prompts.

    Raises:
        InputError: the file cannot be read, a line is something else, or there are no prompts or too many.
    """
    from cao.tasks import prompt_file  # noqa: PLC0415  (imports torch)

    prompts = prompt_file.read_prompts(path)
    if not prompts:
        raise InputError(f"{path}: holds no prompt")
    if len(prompts) > MAX_PROMPTS:
        raise InputError(f"{path}: {len(prompts)} prompts; {MAX_PROMPTS} at most")
    return prompts


def check_out(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder where an adapter must not be written.

    Args:
        folder: where it should go.
        overwrite: whether an earlier adapter of this command may be replaced.

    Raises:
        InputError: a file, or a folder that holds anything else, an adapter of another origin, or one to be kept.
    """
    from cao.model.adapters import CONFIG_FILE, WEIGHTS_FILE  # noqa: PLC0415  (imports torch)

    try:
        names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(_TEMPORARY)}
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{folder}: is no folder that can be written ({error.strerror})") from None
    others = names - {CONFIG_FILE, WEIGHTS_FILE}
    if others:
        raise InputError(f"{folder}: holds {min(others)} and is no adapter's folder; give an empty or a new one")
    if names and not _own(folder / WEIGHTS_FILE):
        raise InputError(f"{folder}: holds an adapter that this command did not make; give an empty or a new folder")
    if names and not overwrite:
        raise InputError(f"{folder}: holds an earlier adapter; replace it with --overwrite, or give another --out")


def _own(weights: Path) -> bool:
    """Return whether a file of weights says that a generator made it."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415  (a mistyped option answers at once)

    try:
        with safe_open(weights, framework="numpy") as file:
            return "generator" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


if __name__ == "__main__":
    sys.exit(main())
