"""A guarded way to a server that speaks OpenAI's API: deadline, retries, sizes, no secrets.

The server is not trusted: a reply is read up to a size and a time. The key is read from the environment, lives inside
the SDK's client alone, and is blotted out of whatever the server sends back.
"""

import ipaddress
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import openai
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from cao.errors import InputError, UnavailableError

ATTEMPTS = 4
MAX_REPLY_BYTES = 4_000_000
FAILURES = (openai.OpenAIError, httpx2.HTTPError, TimeoutError, UnicodeError)
"""Whatever a request can end in; ``Transport.unavailable`` says it in one line."""

T = TypeVar("T")


class Transport:
    """The connection to one server, and its key.

    Attributes:
        sdk: the client; safe to use from several threads.
    """

    def __init__(self, url: str, timeout_s: float, *, offline: bool) -> None:
        """Prepare the connection; nothing is sent.

        Args:
            url: the server's address, with its path.
            timeout_s: seconds that one request may take as a whole.
            offline: refuse every address but this machine's own.

        Raises:
            InputError: this is no address.
            UnavailableError: no key, or an address that offline work forbids.
        """
        local = _is_loopback(url)
        if offline and not local:
            raise UnavailableError(f"{_origin(url)} is not on this machine; run without --offline or set base_url")
        self._key, self._timeout_s = _read_key(required=not local), timeout_s
        # a proxy or a redirect would lead a local address off this machine
        client = httpx2.Client(trust_env=not local, follow_redirects=False, timeout=timeout_s)
        self.sdk = openai.OpenAI(api_key=self._key, base_url=url, max_retries=0, http_client=client)

    @property
    def origin(self) -> str:
        """Scheme, host and port: an address may carry a password."""
        return _origin(str(self.sdk.base_url))

    def read(self, streamed: AbstractContextManager[Any]) -> bytes:
        """Return the body of a streamed reply, the beginning of one that is too large.

        Raises:
            TimeoutError: it took too long as a whole; the SDK's own timeout is per read, which drops of data outlast.
        """
        deadline, body = time.monotonic() + self._timeout_s, bytearray()
        with streamed as response:
            for chunk in response.iter_bytes():
                body += chunk
                if time.monotonic() > deadline:
                    raise TimeoutError("the reply took too long")
                if len(body) > MAX_REPLY_BYTES:
                    break
        return bytes(body)

    def blot(self, text: str) -> str:
        """Return what the server sent without the key."""
        return text.replace(self._key, "[key]")

    def unavailable(self, error: Exception, model: str) -> UnavailableError:
        """Say what failed without a word of the server's, which may echo the key."""
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            return UnavailableError(f"{self.origin} refused the key (HTTP {status}); run: export OPENAI_API_KEY=…")
        if status is not None:
            return UnavailableError(
                f"{self.origin} answered HTTP {status} for model {model!r}; check the address and the model's name"
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
        return error.status_code == 429 or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError | httpx2.TransportError | TimeoutError)


def _read_key(*, required: bool) -> str:
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and required:
        raise UnavailableError("no key for the OpenAI API; run: export OPENAI_API_KEY=…")
    if not key.isascii() or any(char.isspace() or not char.isprintable() for char in key):
        raise UnavailableError("OPENAI_API_KEY holds characters no key has; run: export OPENAI_API_KEY=…")
    return key or "no-key-needed"


def _origin(url: str) -> str:
    parts = _split(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _split(url: str) -> Any:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port):
            return parts
    except ValueError:
        pass
    raise InputError("base_url is no address; write it like http://127.0.0.1:8000/v1")


def _is_loopback(url: str) -> bool:
    host = _split(url).hostname
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
