"""What a request must pass before anything reads it: a name, a key where one is set, a type, a body of bounded size.

A body is read whole, within a time, before the application sees the request.
"""

import asyncio
import hmac
import sys
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.server.errors import ApiError
from agent.server.metrics import Metrics
from cao.encodings import visible
from policies.client.address import names_this_machine

OPEN = ("/health",)
"""Paths that need no key."""
KNOWN = ("/health", "/metrics", "/v1/models", "/v1/completions", "/v1/chat/completions", "/v1/feedback")
"""Paths that are counted by their names."""


class Guard:
    """Stands before the application.

    A page of another origin cannot send JSON here without asking first, which nothing answers, and a body of another
    type is refused. A page whose own name leads here (DNS rebinding) is of the same origin: it is kept out where
    requests must name this machine, and from all but the health where they must bear a key. Where neither is asked for,
    it can do what clients can.
    """

    def __init__(self, app: ASGIApp, *, key: str, local: bool, most: int, seconds: float, metrics: Metrics) -> None:
        """Prepare.

        Args:
            app: what is guarded.
            key: that requests must bear, empty where none is needed.
            local: whether requests to other names than this machine's are refused.
            most: bytes of a body.
            seconds: in which it must have come.
            metrics: count the requests.
        """
        self._app, self._key, self._most, self._seconds, self._metrics = app, key.encode(), most, seconds, metrics
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with what is wrong."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, began, status = str(scope["path"]), time.monotonic(), [0]

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = int(message["status"])
            await send(message)

        try:
            await self._passed(scope, receive, counted)
        except Exception as error:  # noqa: BLE001  (a defect is told in one line, and goes no further)
            sys.stderr.write(f"defect in {visible(path[:80])}: {type(error).__name__}\n")
        finally:
            route = path if path in KNOWN else "other"
            self._metrics.requests.labels(route, str(status[0] or 499)).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - began)

    async def _passed(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        try:
            self._check_name(headers.get(b"host", b""))
            self._check_key(scope["path"], headers.get(b"authorization", b""))
            body = await self._body(scope, headers, receive)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        given = [body]

        async def again() -> Message:
            if given:
                return {"type": "http.request", "body": given.pop(), "more_body": False}
            return await receive()

        await self._app(scope, again, send)

    def _check_name(self, host: bytes) -> None:
        if self._local and not names_this_machine(host.decode("latin-1")):
            words = (
                "without a key, requests are answered to localhost, 127.0.0.1 and [::1] alone; export CAO_SERVE_KEY=…"
            )
            raise ApiError(421, words, "unknown_host")

    def _check_key(self, path: str, authorization: bytes) -> None:
        if not self._key or path in OPEN:
            return
        scheme, _, given = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._key):
            wanted = {"WWW-Authenticate": "Bearer"}
            raise ApiError(401, "no valid key; send Authorization: Bearer KEY", "invalid_api_key", headers=wanted)

    async def _body(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        too_large = ApiError(413, f"the body is larger than {self._most} bytes", "body_too_large", None, CLOSE)
        stated = headers.get(b"content-length", b"0")
        if not stated.isdigit() or len(stated) > 18 or int(stated) > self._most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(400, "the connection ended before the body did", "no_body")
                    body += message.get("body", b"")
                    if len(body) > self._most:
                        raise too_large
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise ApiError(408, f"no whole body within {self._seconds:g} s", "timeout", None, CLOSE) from None
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if scope["method"] == "POST" and kind != b"application/json":
            raise ApiError(415, "send Content-Type: application/json", "unsupported_media_type")
        return bytes(body)


CLOSE = {"Connection": "close"}
"""What is still coming of a body is not waited for."""
