"""What became of a server's models, line by line; what a kill kept from being said is said by the next process."""

import contextlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from agent.server.metrics import Metrics
from cao.errors import CaoError
from cao.files import append_line, whole_lines

EVENTS = "events.jsonl"


@dataclass
class Events:
    """The file, and who reads along on standard error.

    Attributes:
        folder: of the server.
        metrics: count the events.
        current: the model that the last swap made current; before the first one the base model.
    """

    folder: Path
    metrics: Metrics
    current: str
    _said: set[str] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        for line in whole_lines(self.folder / EVENTS):
            self._said.add(line)
            self._follow(line)

    def add(self, event: str, task: str, told: str) -> None:
        """Say that something happened.

        Raises:
            NoRoomError: there is no room for the line; standard error has it.
        """
        self.metrics.events.labels(event).inc()
        sys.stderr.write(f"{event.replace('_', ' ')}: {task}: {told}\n")
        append_line(self.folder / EVENTS, line := _line(event, task, told))
        self._said.add(line)
        self._follow(line)

    def failed(self, task: str, error: Exception) -> None:
        """Say why a task was not adapted to; where there is no room for that, standard error alone has it."""
        with contextlib.suppress(CaoError, OSError):
            self.add("not_adapted", task, str(error) if isinstance(error, CaoError) else type(error).__name__)

    def once(self, event: str, task: str, told: str) -> None:
        """Say what happens once, unless a process said it that was killed before it came to more."""
        if _line(event, task, told) not in self._said:
            self.add(event, task, told)

    def swapped(self, after: str, why: str) -> None:
        """Say which model is current, where it is another one than before."""
        if after != self.current:
            self.metrics.now_current(after)
            self.add("swap", after, f"in place of {self.current}: {why}")

    def _follow(self, line: str) -> None:
        try:
            told = json.loads(line)
            self.current = str(told["task"]) if told["event"] == "swap" else self.current
        except (ValueError, TypeError, KeyError):  # a line of somebody else's
            return


def _line(event: str, task: str, told: str) -> str:
    line: dict[str, JsonValue] = {"event": event, "task": task, "told": told}
    return json.dumps(line, ensure_ascii=False)
