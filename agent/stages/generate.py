"""An adapter from prompts, as ``python -m agent.generate`` makes it: encode, generate, align."""

import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TypedDict

from agent.loop.trained import Trained, find_trained
from agent.record.wording import count
from agent.stages.adapter_folder import workplace
from agent.stages.options import GenerateOptions
from cao.errors import UnavailableError
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.tasks.prompt_file import Asked
from cao.types import AdapterRef
from tools.align_lora import align_lora
from tools.generate_lora import generate_lora, how_to_train


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


def make(options: GenerateOptions, prompts: list[Asked], *, as_json: bool) -> int:
    """Make an adapter from prompts, put it into its folder and say so.

    Args:
        options: what the command takes; the folder is checked.
        prompts: of one task.
        as_json: print an object.

    Raises:
        InputError: no prompt is left to condition on, or the folder cannot be written.
        UnavailableError: the model, or a generator for it, is not at hand.
    """
    lm = load_model(options)
    trained = find_trained(lm.sha256, None, options.variant, align=not options.no_align, folder=options.pretrained)
    advice = how_to_train(lm.profile)
    if trained.generator is None:
        raise UnavailableError(f"no trained generator exists for the base model {options.model}; {advice}")
    if trained.aligner is None and not options.no_align:
        sys.stderr.write(f"note: no aligner was trained behind this generator; {advice}\n")
    with workplace(options.out) as folder:
        reference, making = make_adapter(prompts, lm, trained, folder, options.device)
        for name in sorted(os.listdir(reference.path), reverse=True):  # each in one step, the weights first
            os.replace(Path(reference.path) / name, options.out / name)
    result: Made = {"adapter": {"path": str(options.out), "sha256": reference.sha256}, **making}
    sys.stdout.write((json.dumps(result, ensure_ascii=False) if as_json else sentence(result)) + "\n")
    return 0


def make_adapter(
    asked: list[Asked], lm: LanguageModel, trained: Trained, folder: Path, device: str = "cpu"
) -> tuple[AdapterRef, Making]:
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
    kind = "an aligned" if result["aligned"] else "a generated"
    seconds = result["seconds"]
    spent = ", ".join(f"{name} {seconds[name]:.2f} s" for name in seconds if name != "align" or result["aligned"])
    about = f"{kind} adapter from {count(result['n'], 'prompt')} by generator “{result['variant']}” ({spent})"
    lines = [f"{result['adapter']['path']}: {about}.", *(f"Note: {caveat}." for caveat in result["caveats"])]
    return "\n".join(lines)
