"""An end to one exchange with a server, whatever the server is doing then."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self, TypedDict


class Stream(Protocol):
    """The HTTP library's connection."""

    def get_extra_info(self, info: str) -> socket.socket | None:
        """Return what is asked for, a ``socket`` here."""


class Traced(TypedDict, total=False):
    """What the HTTP library's trace tells of a connection that was made."""

    return_value: Stream


class Deadline:
    """Shuts the connection down when the time is up.

    The timeouts of HTTP libraries are for one read each. Interim answers without end, or bytes that drop in one at a
    time, outlast them, and a loop over the body never begins.

    Attributes:
        passed: whether the time was up before the exchange had ended.
    """

    def __init__(self, seconds: float) -> None:
        """Set the time; it runs from ``with`` on."""
        self.passed = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def watch(self, event: str, info: Traced) -> None:
        """Note the connection when it is made, and again when it is encrypted: the HTTP library's trace.

        Args:
            event: what happened.
            info: ``return_value`` is the stream of a new connection.
        """
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                self._shut()

    def _pass(self) -> None:
        with self._lock:
            self.passed = True
            self._shut()

    def _shut(self) -> None:
        if self.passed and self._socket is not None:
            with suppress(OSError):  # it is closed already
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # not TLS's own, which would wait for the peer
