"""The stream detector beside the server: a thread of its own, fed without anybody waiting for it."""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.server.metrics import Metrics
from agent.server.settings import ServeOptions
from agent.stream.command import watched
from agent.stream.options import WatchOptions
from agent.stream.source import JOURNAL, PipeSource
from agent.stream.state import Event, read_state
from agent.stream.watcher import Adapt
from cao.errors import CaoError

WAITING = 4096
"""Prompts that wait for the detector; what comes beyond them is served, and not watched."""
TOGETHER = 64
"""Prompts that are taken over at once."""
NICER = 5


def lower(of: int, steps: int) -> None:
    """Lower the priority of a process, or of a thread, by steps below this one's."""
    os.setpriority(os.PRIO_PROCESS, of, min(19, os.getpriority(os.PRIO_PROCESS, 0) + steps))


class _EndedError(Exception):
    """The server ends; what was committed is gone on from."""


@dataclass
class Watching:
    """Watches until the server ends.

    Attributes:
        options: of the server.
        metrics: count what is watched.
        adapt: is told of a new task; returns at once.
        tell: takes the stream's events.
    """

    options: ServeOptions
    metrics: Metrics
    adapt: Adapt | None
    tell: Callable[[Event], None]
    ended: str = field(default="", init=False)
    _given: "queue.Queue[bytes]" = field(default_factory=lambda: queue.Queue(WAITING), init=False, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _thread: threading.Thread = field(init=False, repr=False)
    _spent: float = field(default=0.0, init=False, repr=False)  # its processor time so far, seconds

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    @property
    def folder(self) -> Path:
        """Of the watch."""
        return self.options.out / "watch"

    def window(self, task: str) -> Path:
        """Return the file of the prompts behind the alarm that found a task."""
        return self.folder / "windows" / f"{task}.jsonl"

    def windows(self) -> list[Path]:
        """Return these files, those of all tasks that were found."""
        return sorted((self.folder / "windows").glob("*.jsonl"))

    def current(self) -> tuple[str, ...]:
        """Return the tasks that an earlier process expected last, none where there was no such process."""
        try:
            return tuple(read_state(self.folder / "state.json").current)
        except (OSError, ValueError):  # one that is damaged is refused where the watch begins
            return ()

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End, and leave what an other process goes on from."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def put(self, line: bytes) -> None:
        """Take a prompt, where there is room for it; nobody waits."""
        try:
            self._given.put_nowait(line)
        except queue.Full:
            self.metrics.unwatched.inc()

    def _run(self) -> None:
        given = self.options
        options = WatchOptions(
            stream="-",
            reference=given.reference,
            registry=given.registry,
            adapt=given.adapt,
            run_length=given.run_length,
            window=given.window,
            out=self.folder,
            seed=given.seed,
            device=given.device,
            offline=given.offline,
        )
        if sys.platform == "linux":  # where a thread has a priority of its own; answers go first
            lower(threading.get_native_id(), NICER)
        source = PipeSource(self.folder / JOURNAL, self._more)
        try:
            watched(options, source, self.adapt, self.tell, lambda note: None)
        except _EndedError:
            return
        except Exception as error:  # noqa: BLE001  (serving goes on; health says that nothing is watched any more)
            self.ended = str(error) if isinstance(error, CaoError) else type(error).__name__
            sys.stderr.write(f"nothing is watched any more: {self.ended}\n")

    def _more(self) -> bytes:
        """Return the prompts that wait, as soon as there are any."""
        now = time.thread_time()
        self.metrics.watching.inc(now - self._spent)
        self._spent = now
        while not self._stop.is_set():
            try:
                lines = [self._given.get(timeout=0.2)]
            except queue.Empty:
                continue
            while len(lines) < TOGETHER and not self._given.empty():
                lines.append(self._given.get_nowait())
            self.metrics.watched.inc(len(lines))
            return b"".join(lines)
        raise _EndedError
