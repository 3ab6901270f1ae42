"""An adapter from prompts, as ``python -m agent.generate`` makes it: encode, generate, align, perhaps train."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from agent.loop.trained import Trained, find_trained
from agent.record.schema import AdapterFile
from agent.record.wording import count
from agent.stages.adapter_folder import workplace
from agent.stages.options import GenerateOptions
from cao.errors import InputError, NotApplicableError, UnavailableError
from cao.machine.assets import minilm_folder
from cao.model.adapters import load_adapter, save_adapter
from cao.model.encoder import Encoder
from cao.model.language_model import LanguageModel
from cao.model.loading import load_model
from cao.progress import timed
from cao.strategies import Standing
from cao.strategy import parse_strategy
from cao.tasks.prompt_file import Asked
from cao.types import AdaptedModel, AdapterRef, Record
from tools.align_lora import align_lora
from tools.apply_strategy import apply_strategy
from tools.generate_lora import generate_lora, how_to_train


class Made(Record):
    """What came of making an adapter; the object of ``--json``.

    Attributes:
        adapter: its folder, and its hash.
        aligned: whether the aligner corrected it.
        variant: which of the trained generators made it.
        sources: the tasks that the generator was trained on.
        seconds: for each part.
        caveats: what limits it, in sentences without their full stop.
        n: prompts that it was made from.
        applied: what the strategy did that was applied to it, in one sentence; None without one.
    """

    adapter: AdapterFile
    aligned: bool
    variant: str | None
    sources: tuple[str, ...]
    seconds: dict[str, float]
    caveats: tuple[str, ...]
    n: int
    applied: str | None = None


def make(options: GenerateOptions, prompts: list[Asked], *, as_json: bool) -> int:
    """Make an adapter from prompts, put it into its folder and say so.

    Args:
        options: what the command takes; the folder is checked.
        prompts: of one task.
        as_json: print an object.

    Raises:
        InputError: no prompt is left to condition on, the folder cannot be written, or the strategy not be applied.
        UnavailableError: the model, or a generator for it, is not at hand.
    """
    result = made(options, prompts, lambda note: sys.stderr.write(f"note: {note}\n"))
    sys.stdout.write((json.dumps(result.model_dump()) if as_json else sentence(result)) + "\n")
    return 0


def made(options: GenerateOptions, prompts: list[Asked], tell: Callable[[str], object]) -> Made:
    """Make an adapter from prompts and put it into its folder.

    Args:
        options: what the command takes; the folder is checked.
        prompts: of one task.
        tell: says what a person should know before.

    Raises:
        InputError: no prompt is left to condition on, the folder cannot be written, or the strategy not be applied.
        UnavailableError: the model, or a generator for it, is not at hand.
    """
    lm = load_model(options)
    trained = find_trained(lm.sha256, None, options.variant, align=not options.no_align, folder=options.pretrained)
    advice = how_to_train(lm.profile)
    if trained.generator is None:
        raise UnavailableError(f"no trained generator exists for the base model {options.model}; {advice}")
    if trained.aligner is None and not options.no_align:
        tell(f"no aligner was trained behind this generator; {advice}")
    with workplace(options.out) as folder:
        result = make_adapter(prompts, lm, trained, folder, options.device)
        if options.strategy is not None:
            result = trained_further(result, options.strategy, prompts, lm, folder)
        place = Path(result.adapter.path)
        for name in sorted(os.listdir(place), reverse=True):  # each in one step, the weights first
            os.replace(place / name, options.out / name)
    return result.model_copy(update={"adapter": result.adapter.model_copy(update={"path": str(options.out)})})


def make_adapter(asked: list[Asked], lm: LanguageModel, trained: Trained, folder: Path, device: str = "cpu") -> Made:
    """Make an adapter from prompts: encode, generate and, where there is an aligner, align.

    Args:
        asked: prompts of one task.
        lm: the base model.
        trained: the parts to use, a generator among them.
        folder: where the files go.
        device: where the encoder runs.

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
    return Made(
        adapter=AdapterFile(path=reference.path, sha256=reference.sha256),
        aligned=aligned,
        variant=trained.variant,
        sources=trained.sources,
        seconds=dict(zip(("encode", "generate", "align"), seconds, strict=True)),
        caveats=tuple(caveats),
        n=len(generated.kept),
    )


def trained_further(made: Made, strategy: str, asked: list[Asked], lm: LanguageModel, folder: Path) -> Made:
    """Apply a strategy that needs no labels to a made adapter; equal arguments give an equal one.

    Args:
        made: the adapter, with its files.
        strategy: as JSON, of a family that leaves one adapter.
        asked: the prompts, on which it trains where it does.
        lm: the base model.
        folder: where the files go.

    Raises:
        InputError: it has nothing to act on, or diverges.
    """
    began, chosen, start = time.monotonic(), parse_strategy(strategy), load_adapter(Path(made.adapter.path))
    reference = AdapterRef(**made.adapter.model_dump(), base_sha256=start.base_sha256, rank=start.rank)
    standing = Standing(AdaptedModel(members=(reference,)), lm.profile.name, generator=False)
    forms = list(dict.fromkeys(one.form(lm.profile.answer_style) for one in asked if one.prompt.strip()))
    try:
        with timed(f"applying {chosen.family}"):
            model = apply_strategy(chosen, forms, standing, 0, lm=lm, store=folder / "applied")
    except NotApplicableError as error:
        raise InputError(f"--strategy: {error}") from None
    (left,) = model.members
    assert left is not None, "TTL and LORA leave an adapter"
    weights = load_adapter(Path(left.path))
    left = save_adapter(folder, replace(weights, provenance=start.provenance | weights.provenance), lm.source)
    return made.model_copy(
        update={
            "adapter": AdapterFile(path=left.path, sha256=left.sha256),
            "seconds": {**made.seconds, "apply": round(time.monotonic() - began, 4)},
            "applied": model.note,
        }
    )


def sentence(result: Made) -> str:
    """Return the outcome for people.

    Args:
        result: the object of ``--json``.
    """
    kind = "an aligned" if result.aligned else "a generated"
    applied = [f"Applied to it: {result.applied}."] if result.applied else []
    seconds = result.seconds
    spent = ", ".join(f"{name} {seconds[name]:.2f} s" for name in seconds if name != "align" or result.aligned)
    about = f"{kind} adapter from {count(result.n, 'prompt')} by generator “{result.variant}” ({spent})"
    lines = [f"{result.adapter.path}: {about}.", *applied, *(f"Note: {caveat}." for caveat in result.caveats)]
    return "\n".join(lines)
