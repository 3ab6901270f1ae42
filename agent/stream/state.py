"""What a watched stream is resumed from."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from agent.stream.source import Mark


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

    settings: dict[str, Any]
    offset: int = 0
    file: Mark | None = None
    events_bytes: int = 0
    seq: int = 0
    prompts: int = 0
    skipped: int = 0
    unreadable: dict[str, int] = {}
    alarms: int = 0
    current: list[str]
    detector: dict[str, Any] | None = None
    every: int = 1
    window: list[str] = []
    alarm: int | None = None
    learnt: list[str] = []
    runs: dict[str, str] = {}
    recent: list[str] = []
    ended: bool = False
