"""The command ``agent.watch`` behind its options: watch, go on where an earlier process was, tell the events."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from agent.loop.run_folder import locked
from agent.record.terminal import make_view
from agent.stream.options import WatchOptions
from agent.stream.source import FileSource, PipeSource
from agent.stream.state import Event, WatchSettings, WatchState, read_state
from agent.stream.watcher import Adapt, Watcher
from agent.stream.wording import unreadable, words
from cao.command_line import make_folder
from cao.encodings import visible
from cao.errors import InputError
from cao.machine.assets import minilm_folder
from cao.model.encoder import Encoder
from tools.detect_drift.reference import known_tasks


def watch(options: WatchOptions, source: FileSource | PipeSource, file: Path | None, *, as_json: bool) -> int:
    """Watch a stream to its end and print its events.

    Args:
        options: what the command takes.
        source: the stream.
        file: a configuration file, for the runs that adapt.
        as_json: print an object a line.

    Raises:
        InputError: the folder holds another watch, or no line of the stream could be read.
        UnavailableError: the encoder is not at hand.
    """
    adapt = None
    if options.adapt:
        from agent.stream.adapting import adapting  # noqa: PLC0415  (a second more, for langgraph)

        adapt = adapting(options, file, make_view)
    watched(options, source, adapt, _teller(options.out, as_json=as_json), lambda note: sys.stderr.write(f"{note}\n"))
    return 0


def watched(
    options: WatchOptions,
    source: FileSource | PipeSource,
    adapt: Adapt | None,
    tell: Callable[[Event], None],
    say: Callable[[str], object],
) -> WatchState:
    """Watch a stream to its end and return the last state.

    Args:
        options: what the command takes.
        source: the stream.
        adapt: what adapts to a window, None without adaptation.
        tell: shows an event.
        say: shows a line that is no event.

    Raises:
        InputError: the folder holds another watch, or no line of the stream could be read.
        UnavailableError: the encoder is not at hand.
    """
    folder = options.out
    encoder = Encoder(minilm_folder(), options.device)
    known = known_tasks(options.reference, encoder, folder=options.registry).heard_from(None)
    make_folder(folder)
    settings: WatchSettings = {
        "stream": options.stream,
        "reference": list(known.expected),
        "threshold": options.run_length,
        "window": options.window,
        "seed": options.seed,
        "encoder": encoder.sha256,
    }
    with locked(folder):
        state = _state(folder / "state.json", settings, known.expected, say)
        before = state.prompts + state.skipped
        state = Watcher(folder, source, encoder, known, state, tell, adapt).run()
    if before and state.prompts + state.skipped == before and isinstance(source, FileSource):
        say(
            f"{options.stream} has nothing new; --follow waits for more, and another --out begins from its first prompt"
        )
    if state.unreadable and not state.prompts:
        raise InputError(f"{options.stream}: no prompt could be read: {unreadable(state.unreadable)}")
    return state


def _state(path: Path, settings: WatchSettings, expected: tuple[str, ...], say: Callable[[str], object]) -> WatchState:
    """Return the state to go on from: a fresh one, or what an earlier process left."""
    if not path.exists():
        return WatchState(settings=settings, current=list(expected))
    try:
        state = read_state(path)
    except (OSError, ValueError):
        raise InputError(f"{path}: damaged; give another --out") from None
    changed = [key for key, value in settings.items() if state.settings.get(key) != value]
    if changed:
        raise InputError(f"{path.parent} holds a watch with another {changed[0]}; repeat it, or give another --out")
    say(f"going on behind prompt {state.prompts}")
    return state


def _teller(folder: Path, *, as_json: bool) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        sys.stdout.write((json.dumps(event) if as_json else visible(words(event, folder))) + "\n")
        sys.stdout.flush()

    return tell
