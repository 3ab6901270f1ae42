"""How the library's verbs tell their caller what they are doing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from pydantic import Field, JsonValue

from agent.record.events import sentence
from agent.stream.state import Event
from agent.stream.wording import words
from cao.progress import listen
from cao.types import Record


class Step(Record):
    """Something that happened during long work.

    Attributes:
        kind: ``start`` and ``end`` of a node or of other work, ``work`` for how far it is, ``event`` of a watched
            stream, ``note`` for a fact.
        name: the node, the work, or the event's kind; empty for a note.
        text: in words, empty where the name says it.
        done: how much of the work is done.
        total: all of it, 0 where it is not counted.
        seconds: how long it took, None where that is not known or it goes on.
        data: what the trace, or the stream's event, holds.
    """

    kind: Literal["start", "end", "work", "event", "note"]
    name: str = ""
    text: str = ""
    done: int = 0
    total: int = 0
    seconds: float | None = None
    data: dict[str, JsonValue] = Field(default_factory=dict)


Progress = Callable[[Step], None]
"""Called with each step, in the thread that called the verb; what it raises ends the work."""


def silent(step: Step) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class CallbackView:
    """Hands a run's events and its progress to a function; a view as ``agent.record.terminal`` has them."""

    tell: Progress

    def event(self, node: str, event: str, data: dict[str, JsonValue], seconds: float | None) -> None:
        """Tell that a node started or ended."""
        if event == "resume":
            self.say(f"resuming at {data['at']}")
        elif event in ("start", "end"):
            text = sentence(node, data) if event == "end" else ""
            self.tell(
                Step(kind="start" if event == "start" else "end", name=node, text=text, seconds=seconds, data=data)
            )

    def progress(self, label: str, done: int, total: int) -> None:
        """Tell how far long work has come."""
        self.tell(Step(kind="work", name=label, done=done, total=total))

    def say(self, text: str) -> None:
        """Tell a fact."""
        self.tell(Step(kind="note", text=text))

    def stream(self, event: Event, folder: Path) -> None:
        """Tell what a watched stream came to; paths in words begin with the watch's folder."""
        data = cast(dict[str, JsonValue], {**event})
        self.tell(Step(kind="event", name=event["event"], text=words(event, folder), data=data))

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def telling(progress: Progress | None) -> Iterator[CallbackView]:
    """Hand what long work reports to a function, and nothing of it to the terminal."""
    view = CallbackView(progress or silent)

    def show(what: str, seconds: float | None) -> None:
        view.tell(Step(kind="start" if seconds is None else "end", name=what, seconds=seconds))

    stop = listen(show)
    try:
        yield view
    finally:
        stop()
