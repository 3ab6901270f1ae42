"""The way to a server behind this one.

It is not trusted: it is followed to no other host, and its key, which comes from the environment, is taken out of what
it says is wrong.
"""

import json
import os
from dataclasses import dataclass

import httpx2

from agent.server.settings import ServeOptions
from cao.errors import UnavailableError
from policies.client.address import is_loopback, origin
from policies.client.secret import Secret


@dataclass(frozen=True)
class Connection:
    """A server, and what it takes to ask it.

    Attributes:
        url: its address, with its path.
        headers: of every request.
        secret: takes the key out of what it says.
        timeout_s: seconds in which it must go on.
        offline: whether no other machine may be asked.
        forwarding: for requests, of which many are under way.
        asking: for questions of this server's own.
    """

    url: str
    headers: dict[str, str]
    secret: Secret
    timeout_s: float
    offline: bool
    forwarding: httpx2.AsyncClient
    asking: httpx2.Client

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return origin(self.url)

    def said(self, body: bytes) -> str:
        """Return what an error of the server's says, without the key; empty where it has no message.

        Args:
            body: of the error.
        """
        try:
            words = str(json.loads(body)["error"]["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return ""
        return self.secret.redact(words)


def connection(options: ServeOptions) -> Connection:
    """Prepare the way to the server; nothing is sent.

    Raises:
        InputError: this is no address.
        UnavailableError: an address that offline work forbids.
    """
    url = str(options.upstream).rstrip("/")
    local = is_loopback(url)
    if options.offline and not local:
        raise UnavailableError(f"{origin(url)} is not on this machine; run without --offline or give another one")
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    limits = httpx2.Limits(max_connections=options.queue, max_keepalive_connections=options.batch)
    env, seconds = not local, options.timeout_s  # a proxy would lead a local address off this machine
    return Connection(
        url,
        {"Authorization": f"Bearer {key}"} if key else {},
        Secret(key),
        options.timeout_s,
        options.offline,
        httpx2.AsyncClient(trust_env=env, follow_redirects=False, timeout=seconds, limits=limits),
        httpx2.Client(trust_env=env, follow_redirects=False, timeout=seconds),
    )
