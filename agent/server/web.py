"""The web server: one address, one shape of error, and an end that waits for what is under way."""

import contextlib
import logging
import socket
from collections.abc import Callable

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent.server.errors import ApiError
from cao.errors import InputError, UnavailableError


class Protocol(H11Protocol):
    """HTTP, of which also what is none is answered in the shape of the other errors."""

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
        self.transport.close()


class Web(uvicorn.Server):
    """The server; a signal, or ``should_exit``, has it take no more and work off what it took."""

    def __init__(self, app: ASGIApp, drain_s: float, ready: Callable[[], None]) -> None:
        """Prepare.

        Args:
            app: what answers.
            drain_s: seconds that requests under way are given at the end.
            ready: called once requests are taken.
        """
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what a stranger sends is no news
        config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(drain_s)),
        )
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._ready()


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
