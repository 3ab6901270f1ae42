"""The web server: one address, one shape of error, clients that leave, and an end that waits for what is under way."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import TypeVar

import h11
import uvicorn
from starlette.requests import Request as Http
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.server.errors import ApiError
from cao.errors import InputError, UnavailableError

T = TypeVar("T")


class Protocol(H11Protocol):
    """HTTP, of which also what is none is answered in the shape of the other errors.

    Attributes:
        head_s: seconds in which a request's head must have come.
    """

    head_s = 60.0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        """Bound the time in which a head, or a body that nobody reads, must have come; bytes that trickle win none."""
        unread = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        if self.conn.their_state is not h11.IDLE and not unread:
            self._stop_waiting()
        elif self._late is None:
            self._late = self.loop.call_later(self.head_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def send_400_response(self, msg: str) -> None:
        """Say that this was no HTTP, and close."""
        with contextlib.suppress(h11.LocalProtocolError):
            body = bytes(ApiError(400, "this is no HTTP request", "invalid_http").response().body)
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            events = (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage())
            for one in events:
                self.transport.write(self.conn.send(one) or b"")
        if self.cycle is not None:  # nobody waits for what a request came to whose body is broken
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


class Web(uvicorn.Server):
    """The server; a signal, or ``should_exit``, has it take no more and work off what it took.

    Attributes:
        cut: requests that it was not given time for at the end.
    """

    def __init__(self, app: ASGIApp, head_s: float, drain_s: float, ready: Callable[[], None]) -> None:
        """Prepare.

        Args:
            app: what answers.
            head_s: seconds in which a request's head must have come.
            drain_s: seconds that requests under way are given at the end.
            ready: called once requests are taken.
        """
        bounded = type("Bounded", (Protocol,), {"head_s": head_s})
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what a stranger sends is no news
        config = uvicorn.Config(
            app,
            http=bounded,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(drain_s)),
        )
        super().__init__(config)
        self._ready = ready
        self.cut = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, work off what was taken as long as there is time for it, and count what was cut off."""
        await super().shutdown(sockets)
        self.cut = len(self.server_state.tasks)


async def unless_gone(coming: Coroutine[object, object, T], http: Http) -> T:
    """Return what comes, unless whoever asked goes away first; then it is cancelled.

    Args:
        coming: what is waited for.
        http: the request, whose body was read.

    Raises:
        ApiError: they did.
    """
    wanted = asyncio.ensure_future(coming)
    gone = asyncio.ensure_future(_gone(http))
    try:
        await asyncio.wait({wanted, gone}, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        raise ApiError(499, "nobody waits for the answer", "gone")
    finally:
        wanted.cancel()
        gone.cancel()


async def _gone(http: Http) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


def bound(host: str, port: int) -> socket.socket:
    """Return a socket at an address, on which nothing is accepted yet.

    Raises:
        InputError: there is no such address here.
        UnavailableError: it is taken, or may not be used.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise InputError(f"--host {host}: no such address; 127.0.0.1 is this machine's own") from None
    made = socket.socket(family, kind, proto)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(address)
    except OSError as error:
        made.close()
        raise UnavailableError(f"{host}:{port} cannot be used ({error.strerror}); give another --port") from None
    return made


def address(of: socket.socket) -> str:
    """Return where clients find a server."""
    host, port = of.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
