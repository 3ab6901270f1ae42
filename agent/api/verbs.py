"""``detect``, ``generate``, ``watch`` and ``load``: the commands' work on a program's own data."""

import json
import os
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel
from typing_extensions import Unpack

from agent.api.given import Prompt, as_asked
from agent.api.options import DetectOptions, GenerateOptions, LoadOptions, PathLike, WatchOptions, plain
from agent.api.progress import Progress, telling
from agent.config import settings_of
from agent.handover import options as handover
from agent.handover.model import Model
from agent.handover.opening import open_model
from agent.stages import options as stages
from agent.stages.adapter_folder import check_out
from agent.stages.drift import reports
from agent.stages.generate import Made, made
from agent.stages.prompts import enough, read_prompts
from agent.stream import options as stream_options
from agent.stream.adapting import adapting
from agent.stream.command import watched
from agent.stream.source import JOURNAL, PipeSource, source_of
from agent.stream.state import WatchState
from cao.command_line import quiet_libraries
from cao.drift import DriftReport
from cao.errors import InputError
from cao.model.profiles import check_model
from cao.tasks.prompt_file import asked_each, read_windows, windows_of

Settings = TypeVar("Settings", bound=BaseModel)


def detect(
    windows: PathLike | Sequence[Prompt] | Sequence[Sequence[Prompt]],
    *,
    progress: Progress | None = None,
    **options: Unpack[DetectOptions],
) -> tuple[DriftReport, ...]:
    """Report on windows of prompts, as ``cao drift`` does.

    Args:
        windows: a file; or prompts, all of them one window; or lists of prompts, each a window.
        progress: called with each step.
        options: see ``agent.stages.options.DriftOptions``.

    Returns:
        A report on each window.

    Raises:
        InputError: a prompt, a reference or an option cannot be used.
        UnavailableError: a model is not at hand.
    """
    file = windows if isinstance(windows, str | os.PathLike) else "windows"
    settings = _settings(stages.DriftOptions, options, "drift", windows=file)
    if isinstance(windows, str | os.PathLike):
        read = read_windows(settings.windows, settings.window)
    elif not isinstance(windows, Iterable):
        raise InputError(f"windows: give a file, prompts or lists of prompts, and no {type(windows).__name__}")
    else:
        entries = [(f"windows:entry {number}", plain(one)) for number, one in enumerate(windows, 1)]
        read = windows_of(entries, "windows", settings.window)
    with telling(progress):
        return tuple(reports(settings, read))


def generate(
    prompts: PathLike | Sequence[Prompt],
    out: PathLike,
    *,
    progress: Progress | None = None,
    **options: Unpack[GenerateOptions],
) -> Made:
    """Make an adapter from prompts, as ``cao generate`` does: without a strategy no gradient is taken.

    Args:
        prompts: a file, or prompts of one task.
        out: becomes a folder in PEFT format.
        progress: called with each step.
        options: see ``agent.stages.options.GenerateOptions``.

    Raises:
        InputError: a prompt, the folder or an option cannot be used.
        UnavailableError: the model, or a generator for it, is not at hand.
    """
    file = prompts if isinstance(prompts, str | os.PathLike) else "prompts"
    settings = _settings(stages.GenerateOptions, options, "generate", prompts=file, out=out)
    check_model(settings.model)
    check_out(settings.out, overwrite=settings.overwrite)
    if isinstance(prompts, str | os.PathLike):
        asked = read_prompts(settings.prompts)
    else:
        asked = enough(as_asked(prompts, "prompts"), "prompts")
    with telling(progress) as view:
        return made(settings, asked, view.say)


def watch(
    stream: PathLike | Iterable[Prompt],
    *,
    progress: Progress | None = None,
    config: PathLike | None = None,
    **options: Unpack[WatchOptions],
) -> WatchState:
    """Watch a stream of prompts for drift to its end, as ``cao watch`` does.

    Args:
        stream: a file, or prompts as they come; another call with the same ``out`` goes on with more of them.
        progress: called with each event of the stream, as ``events.jsonl`` holds it, and each step of a run.
        config: a configuration file for the runs that adapt.
        options: see ``agent.stream.options.WatchOptions``.

    Returns:
        Where the watch stands at the end of the stream, as ``state.json`` holds it.

    Raises:
        InputError: the stream, the folder or an option cannot be used.
        UnavailableError: the encoder is not at hand.
    """
    path = stream if isinstance(stream, str | os.PathLike) else "-"
    settings = _settings(stream_options.WatchOptions, options, "watch", stream=path)
    with telling(progress) as view:
        source = (
            source_of(settings, view.say)
            if isinstance(stream, str | os.PathLike)
            else PipeSource(settings.out / JOURNAL, _lines(stream).__next__)
        )
        file = None if config is None else Path(config)
        adapt = adapting(settings, file, lambda: view) if settings.adapt else None
        return watched(settings, source, adapt, lambda event: view.stream(event, settings.out), view.say)


def load(folder: PathLike, *, progress: Progress | None = None, **options: Unpack[LoadOptions]) -> Model:
    """Load a model that answers: what a run adopted, from its folder or from one that ``cao export`` wrote.

    Args:
        folder: the run's, or the exported one.
        progress: called with each step.
        options: which base model, where it is not the one that the folder names, and on what it is loaded; see
            ``agent.handover.options.LoadOptions``.

    Raises:
        InputError: the folder is neither, it is damaged, or the base model is another one.
        UnavailableError: the base model is not at hand.
    """
    settings = _settings(handover.LoadOptions, options, "load", folder=folder)
    with telling(progress):
        return open_model(settings)


def _settings(kind: type[Settings], options: Mapping[str, object], verb: str, **given: object) -> Settings:
    """Return a command's settings from keywords; libraries are quietened, too.

    Raises:
        InputError: an unknown keyword or an impossible value, in the command's words.
    """
    unknown = next((name for name in options if name not in kind.model_fields), None)
    if unknown is not None:
        raise InputError(f"{verb}: {unknown}: unknown key; known: {', '.join(kind.model_fields)}")
    values = {key: plain(value) for key, value in {**options, **given}.items()}
    if isinstance(values.get("reference"), str):
        values["reference"] = [values["reference"]]
    quiet_libraries(offline=bool(values.get("offline")))
    return settings_of(kind, Namespace(**values, assignments=[], config=None), verb)


def _lines(prompts: Iterable[Prompt]) -> Iterator[bytes]:
    """Yield prompts as a pipe would bring them, then nothing for ever."""
    for number, one in enumerate(prompts, 1):
        try:
            line = f"{json.dumps(plain(one), ensure_ascii=False, allow_nan=False)}\n".encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"stream:entry {number}: cannot be written as JSON ({error})") from None
        asked_each([(f"stream:entry {number}", plain(one))])  # what is no prompt is refused before it is put down
        yield line
    while True:
        yield b""
