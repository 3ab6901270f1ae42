"""Calls of language models, told to whoever records them; no text is among what is told."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from cao.types import Record


class Call(Record):
    """One call of a language model: to which, how, and what it took; never what was asked or said.

    Attributes:
        operation: ``chat`` for messages, ``text_completion`` for a text that the model goes on with.
        provider: ``openai`` for a server that speaks its API, ``cao-llm`` for a model in this process.
        model: its name.
        server: scheme, host and port of the server, empty where there is none.
        choices: texts asked for.
        max_tokens: of one text at most.
        temperature, top_p: of the sampling.
        input_tokens, output_tokens: read and written, None where the server does not say.
        seconds: how long it took, s.
        error: the type of what it failed with, empty where it did not.
    """

    operation: Literal["chat", "text_completion"]
    provider: Literal["openai", "cao-llm"]
    model: str
    server: str = ""
    choices: int = 1
    max_tokens: int
    temperature: float
    top_p: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float = 0.0
    error: str = ""


@dataclass
class Usage:
    """The tokens that a call took, filled in by whoever makes it."""

    input_tokens: int | None = None
    output_tokens: int | None = None

    def add(self, read: int, written: int) -> None:
        """Count tokens that were read and written."""
        self.input_tokens = (self.input_tokens or 0) + read
        self.output_tokens = (self.output_tokens or 0) + written


Listener = Callable[[Call], None]

_listener: ContextVar[Listener | None] = ContextVar("listener of calls", default=None)
"""Of a thread, so that what another one asks is not told to this one's run."""


@contextmanager
def heard(listener: Listener) -> Iterator[None]:
    """Have a listener told each call that ends inside."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


@contextmanager
def telling(call: Call) -> Iterator[Usage]:
    """Time a call and tell it at its end, failed or not.

    Args:
        call: what is known before it is made.

    Yields:
        What its tokens are written into.
    """
    usage, started, error = Usage(), time.monotonic(), ""
    try:
        yield usage
    except BaseException as failed:
        error = type(failed).__name__
        raise
    finally:
        if listener := _listener.get():
            took = {"seconds": round(time.monotonic() - started, 4), "error": error}
            listener(call.model_copy(update={**took, **vars(usage)}))
