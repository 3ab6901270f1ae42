"""What a watched stream is resumed from."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from agent.stream.source import Mark
from cao.files import opened
from tools.detect_drift.sequential import DetectorState


class WatchSettings(TypedDict, total=False):
    """What a watch is resumed with only if equal.

    Attributes:
        stream: the file, or ``-``.
        reference: the tasks that are expected.
        threshold: prompts without drift to a false alarm.
        window: prompts that are collected after an alarm.
        seed: of every random choice.
        encoder: the encoder's hash.
    """

    stream: str
    reference: list[str]
    threshold: int | float
    window: int
    seed: int
    encoder: str


class EventData(TypedDict, total=False):
    """What events say besides their number and their kind; each kind has some of these keys."""

    adapter: str | None
    alarm: int | None
    alarms: int
    count: int
    every: int
    expected: list[str]
    holds: bool
    kind: str
    known: list[str]
    line: int
    prompt: int
    prompts: int
    reason: str
    report: dict[str, JsonValue]
    run: str | None
    since: int
    skipped: int
    statistic: float
    stored: bool
    task: str
    tasks: list[str]
    told: str
    unreadable: dict[str, int]


class Event(EventData):
    """One line of ``events.jsonl``: its number, its kind, and what that kind says."""

    seq: int
    event: str


class Adapted(TypedDict):
    """What came of adapting to a window: the run's folder if it improved the model, else None, and words."""

    run: str | None
    told: str


class Deployed(TypedDict):
    """What is deployed for a task: the run's folder, and in it the adapter's; None where there is none."""

    run: str | None
    adapter: str | None


class WatchState(BaseModel):
    """What ``state.json`` holds.

    Attributes:
        settings: what a watch is resumed with only if equal: stream, references, threshold, window, seed, encoder.
        offset: byte behind the last line that was dealt with.
        file: what the file that the offset belongs to is recognised by, None behind a pipe.
        events_bytes: length of ``events.jsonl`` that belongs to this state.
        seq: events so far.
        prompts: prompts so far, blanks, repeats and bad lines not counted.
        skipped: blank, repeated and unreadable lines so far.
        unreadable: reason → lines so far that could not be read for it.
        current: the tasks that prompts are expected from.
        detector: the running test; None while a window is collected.
        every: one prompt in so many is judged; closer neighbours resemble each other, as the last window showed.
        window: lines of the window that is being collected, as they came.
        alarm: number of the prompt that raised the alarm, None while there is none.
        learnt: names of the new tasks of this stream, oldest first.
        runs: task → folder of the run that improved the model for it.
        recent: hashes of the latest prompts.
        ended: whether the stream came to its end.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    settings: WatchSettings
    offset: int = 0
    file: Mark | None = None
    events_bytes: int = 0
    seq: int = 0
    prompts: int = 0
    skipped: int = 0
    unreadable: dict[str, int] = {}
    alarms: int = 0
    current: list[str]
    detector: DetectorState | None = None
    every: int = 1
    window: list[str] = []
    alarm: int | None = None
    learnt: list[str] = []
    runs: dict[str, str] = {}
    recent: list[str] = []
    ended: bool = False


def read_state(path: Path) -> WatchState:
    """Return what a watch's ``state.json`` holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not what was written.
    """
    return WatchState.model_validate_json(opened(path.read_bytes()))
