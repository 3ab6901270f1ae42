"""A guarded way to a server that speaks OpenAI's API: deadline, retries, sizes, no secrets.

The server is not trusted: a reply is read up to a size and a time, an error's body not at all. The key is read from the
environment, goes nowhere but to the server, and is taken out of whatever that sends back.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import httpx2
import openai
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from cao.errors import UnavailableError
from policies.client.address import is_loopback, origin
from policies.client.deadline import Deadline
from policies.client.limits import ATTEMPTS
from policies.client.secret import Secret

MAX_REPLY_BYTES = 4_000_000
FAILURES = (openai.OpenAIError, httpx2.HTTPError, TimeoutError, UnicodeError)
"""Whatever a request can end in; ``Transport.unavailable`` says it in one line."""

T = TypeVar("T")


class Streamed(Protocol):
    """A reply whose body comes in pieces."""

    def iter_bytes(self) -> Iterator[bytes]:
        """Yield the body."""


class _Unread(httpx2.SyncByteStream):
    """The body of an error, which nobody reads: it may have no end, and may echo the key."""

    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def close(self) -> None:
        self._stream.close()


class Transport:
    """The connection to one server, and its key.

    Attributes:
        sdk: the client; safe to use from several threads.
    """

    def __init__(self, url: str, timeout_s: float, *, offline: bool, keyless: bool = False) -> None:
        """Prepare the connection; nothing is sent.

        Args:
            url: the server's address, with its path.
            timeout_s: seconds that one request may take as a whole.
            offline: refuse every address but this machine's own.
            keyless: whether another machine may be asked without a key, too.

        Raises:
            InputError: this is no address.
            UnavailableError: no key, or an address that offline work forbids.
        """
        local = is_loopback(url)
        if offline and not local:
            raise UnavailableError(f"{origin(url)} is not on this machine; run without --offline or set base_url")
        key = _read_key(required=not (local or keyless))
        self._secret, self._timeout_s, self._exchange = Secret(key), timeout_s, threading.local()
        # a proxy or a redirect would lead a local address off this machine; a deadline needs a connection of its own
        client = httpx2.Client(
            trust_env=not local,
            follow_redirects=False,
            timeout=timeout_s,
            limits=httpx2.Limits(max_keepalive_connections=0),
            event_hooks={"request": [self._watch], "response": [_leave_errors_unread]},
        )
        self.sdk = openai.OpenAI(api_key=key or "no-key-needed", base_url=url, max_retries=0, http_client=client)

    @property
    def origin(self) -> str:
        """Scheme, host and port: an address may carry a password."""
        return origin(str(self.sdk.base_url))

    def read(self, streamed: AbstractContextManager[Streamed]) -> bytes:
        """Send a request and return the body of its streamed reply, the beginning of one that is too large.

        Raises:
            TimeoutError: it took too long as a whole, from the connection to the last byte.
        """
        body, deadline = bytearray(), Deadline(self._timeout_s)
        self._exchange.deadline = deadline
        try:
            with deadline, streamed as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_REPLY_BYTES:
                        break
        except Exception:
            if not deadline.passed:
                raise
        if deadline.passed:  # also a body without a stated length, which seems to end where the connection does
            raise TimeoutError("the reply took too long")
        return bytes(body)

    def _watch(self, request: httpx2.Request) -> None:
        request.extensions["trace"] = self._exchange.deadline.watch

    def redact(self, text: str) -> str:
        """Return what the server sent without the key and without parts of it."""
        return self._secret.redact(text)

    def unavailable(self, error: Exception, model: str, how: str = "") -> UnavailableError:
        """Say what failed without a word of the server's, which may echo the key.

        Args:
            error: one of ``FAILURES``.
            model: what was asked.
            how: in which ways, where it was asked in several.
        """
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            return UnavailableError(f"{self.origin} refused the key (HTTP {status}); run: export OPENAI_API_KEY=…")
        if status is not None:
            return UnavailableError(
                f"{self.origin} answered HTTP {status} for model {model!r}{how}; check the address and the model's name"
            )
        if isinstance(error, TimeoutError | openai.APITimeoutError | httpx2.TimeoutException):
            return UnavailableError(
                f"{self.origin} did not answer within {self._timeout_s:g} s; check the network, or give it more time"
            )
        return UnavailableError(
            f"{self.origin} cannot be reached ({type(error).__name__}); check the network or the address"
        )


def with_retries(send: Callable[[], T]) -> T:
    """Return what a request returns, trying again where the trouble may pass."""
    attempts = Retrying(
        retry=retry_if_exception(_worth_another_try),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.25, max=8),
        reraise=True,
    )
    return attempts(send)


def _worth_another_try(error: BaseException) -> bool:
    if isinstance(error, openai.APIStatusError):
        return error.status_code == 429 or (error.status_code >= 500 and error.status_code != 501)
    return isinstance(error, openai.APIConnectionError | httpx2.TransportError | TimeoutError)


def _read_key(*, required: bool) -> str:
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and required:
        raise UnavailableError("no key for the OpenAI API; run: export OPENAI_API_KEY=…")
    if not key.isascii() or any(char.isspace() or not char.isprintable() for char in key):
        raise UnavailableError("OPENAI_API_KEY holds characters no key has; run: export OPENAI_API_KEY=…")
    return key


def _leave_errors_unread(response: httpx2.Response) -> None:
    stream = response.stream
    if not response.is_success and isinstance(stream, httpx2.SyncByteStream):
        response.stream = _Unread(stream)
