"""The one thread in which the model works, and the bounded queue before it.

Texts under one adapter are written side by side, a token a step; new ones join between two steps, so that a long
answer holds nobody up. Under different adapters they take turns. What is no text of one adapter is one call, between
two steps.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from agent.server.writing import Writing
from cao.inference.row_batch import RowBatch
from cao.model.language_model import LanguageModel
from cao.model.soft_prompt.either import Carried

PROMPT_TOKENS = 8192
"""Tokens of prompts that are read at once, padding included."""


T = TypeVar("T")


class FullError(Exception):
    """The queue has no room.

    Attributes:
        seconds: after which it may have some.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the queue is full; try again in {seconds} s")
        self.seconds = seconds


@dataclass(frozen=True)
class Worn:
    """What a text is written under.

    Attributes:
        key: equal for equal weights.
        weights: None for the base model.
    """

    key: str = ""
    weights: Carried | None = None


@dataclass(frozen=True)
class Text:
    """A text to be written."""

    worn: Worn
    writing: Writing

    def leave(self) -> None:
        """Have it dropped: nobody waits any more."""
        self.writing.gone = True


@dataclass
class Call:
    """A call to be made in the model's thread, without an adapter on; it raises nothing.

    Attributes:
        make: the call.
        gone: nobody waits for it any more, so that it is not made.
    """

    make: Callable[[], None]
    gone: bool = False

    def leave(self) -> None:
        """Have it dropped, unless it has begun: nobody waits any more."""
        self.gone = True


Job = Text | Call


@dataclass
class _Group:
    """Texts that are written side by side."""

    worn: Worn
    batch: RowBatch
    writings: list[Writing]


class Engine:
    """Works off jobs until it is stopped.

    Attributes:
        active: texts under way.
        room: jobs that may wait.
    """

    def __init__(self, lm: LanguageModel, *, batch: int, queue: int) -> None:
        """Prepare; nothing works yet.

        Args:
            lm: the base model; no other thread may use it from ``start`` on.
            batch: texts written side by side, at most.
            queue: jobs that may wait.
        """
        self.lm, self.active = lm, 0
        self._batch, self.room = batch, queue
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._groups: list[_Group] = []
        self._on = ExitStack()
        self._worn = ""
        self._pace_s = 0.0  # a job's time, of late
        self._ends = lm.end_tokens()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether the thread works, or waits for work."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Work off what was taken, then end."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take the jobs of one request, all of them or none.

        Raises:
            FullError: there is no room for them.
        """
        with self._changed:
            if self._stopping or len(self._waiting) + len(jobs) > self.room:
                raise FullError(max(1, min(60, math.ceil(self._pace_s * len(self._waiting)))))
            self._waiting.extend(jobs)
            self._changed.notify()

    def within(self, make: Callable[[], T]) -> T:
        """Return what a call makes in the model's thread; waits for room, and for its turn.

        Raises:
            Exception: what the call raised.
        """
        made = Future[T]()

        def call() -> None:
            try:
                made.set_result(make())
            except BaseException as error:  # noqa: BLE001  (it is raised in the thread that waits)
                made.set_exception(error)

        while True:
            try:
                self.submit([Call(call)])
                return made.result()
            except FullError:
                time.sleep(0.1)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting or self._groups or self._stopping):
                    self._changed.wait()
                if not (self._waiting or self._groups):
                    break
                taken = self._take()
            began = time.monotonic()
            self._begin(taken)
            self._groups = [group for group in self._groups if self._step(group)]
            self.active = sum(len(group.writings) for group in self._groups)
            if taken:
                self._pace_s += 0.1 * ((time.monotonic() - began) / len(taken) - self._pace_s)
        self._on.close()

    def _take(self) -> list[Job]:
        """Return the job that has waited longest, with those behind it that can begin together with it."""
        room = self._batch - sum(len(group.writings) for group in self._groups)
        if not self._waiting or (isinstance(self._waiting[0], Text) and not room):
            return []
        first = self._waiting.popleft()
        if isinstance(first, Call):
            return [first]
        taken: list[Job] = [first]
        longest = len(first.writing.prompt)
        for job in list(self._waiting):
            if len(taken) == room:
                break
            if isinstance(job, Text) and job.worn.key == first.worn.key:
                longest = max(longest, len(job.writing.prompt))
                if longest * (len(taken) + 1) > PROMPT_TOKENS:
                    break
                taken.append(job)
                self._waiting.remove(job)
        return taken

    def _begin(self, jobs: Sequence[Job]) -> None:
        """Make a call, or read the prompts of texts and have them join those under way."""
        for job in jobs:
            if isinstance(job, Call) and not job.gone:
                self._wear(Worn())
                job.make()
        texts = [job for job in jobs if isinstance(job, Text) and not job.writing.gone]
        if not texts:
            return
        writings = [text.writing for text in texts]
        try:
            group = _Group(texts[0].worn, RowBatch(self.lm, [one.row for one in writings]), writings)
        except Exception as error:  # noqa: BLE001  (whatever it is, these texts fail and the others go on)
            _fail(writings, error)
            return
        if not self._step(group):
            return
        alike = next((one for one in self._groups if one.worn.key == group.worn.key), None)
        try:
            joined = alike is not None and alike.batch.join(group.batch)
        except RuntimeError as error:  # no memory: what was half joined is of no use
            assert alike is not None, "a batch that joins nothing raises nothing"
            self._groups.remove(alike)
            _fail([*alike.writings, *group.writings], error)
            return
        if alike is not None and joined:
            alike.writings += group.writings
        else:
            self._groups.append(group)

    def _step(self, group: _Group) -> bool:
        """Write a token of each text; return whether any goes on."""
        try:
            self._wear(group.worn)
            with torch.inference_mode():
                logits = self.lm.logits(group.batch.step()).float().cpu()
                slots, tokens = list[int](), list[int]()
                for slot, writing in enumerate(group.writings):
                    token = None if writing.gone else self._drawn(writing, logits[slot])
                    if token is not None:
                        slots.append(slot)
                        tokens.append(token)
                if slots:
                    group.batch.go_on(slots, tokens)
                    group.batch.trim()
        except Exception as error:  # noqa: BLE001  (whatever it is, these texts fail and the others go on)
            _fail(group.writings, error)
            return False
        group.writings = [group.writings[slot] for slot in slots]
        return bool(slots)

    def _drawn(self, writing: Writing, logits: Tensor) -> int | None:
        """Draw a text's next token, (V) logits; None where the text ends with it, or fails: the others go on."""
        try:
            token = writing.draw(logits)
            return token if writing.goes_on(self.lm, self._ends) else None
        except Exception as error:  # noqa: BLE001  (whatever it is, this text fails)
            writing.tell(error)
            return None

    def _wear(self, worn: Worn) -> None:
        """Put an adapter on the model, in place of the one before."""
        if worn.key == self._worn:
            return
        self._on.close()
        self._worn = ""
        if worn.weights is not None:
            self._on.enter_context(self.lm.adapted(worn.weights))
        self._worn = worn.key


def _fail(writings: Sequence[Writing], error: Exception) -> None:
    for writing in writings:
        writing.tell(error)
