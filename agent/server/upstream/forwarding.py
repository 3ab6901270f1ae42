"""Requests for a server behind this one: they go on by the names that it knows, and its answers come back bounded."""

import contextlib
import json
import time
from collections.abc import AsyncIterator

import httpx2
from pydantic import BaseModel, ValidationError
from starlette.requests import Request as Http
from starlette.responses import Response, StreamingResponse

from agent.server.errors import ApiError
from agent.server.listening import Listener
from agent.server.metrics import Metrics
from agent.server.roster import Roster, Served
from agent.server.settings import AUTO
from agent.server.upstream.connection import Connection
from agent.server.upstream.wire import ForwardedChat, ForwardedCompletion
from agent.server.web import unless_gone
from agent.server.wire import read

MOST_REPLY = 16_000_000
"""Bytes of one answer."""
MOST_ERROR = 64_000
KEPT = ("content-type", "retry-after")
"""Headers that are handed on."""
OWN = ("choices", "context")
"""Keys of a request that are this server's own."""


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    text: str | None = None
    message: _Message | None = None


class _Reply(BaseModel):
    id: str
    choices: list[_Choice] = []


class Forwarder:
    """Answers by a server behind this one."""

    def __init__(self, to: Connection, roster: Roster, listener: Listener, metrics: Metrics) -> None:
        """Prepare.

        Args:
            to: the server.
            roster: what is served.
            listener: is told questions and answers.
            metrics: count them.
        """
        self._to, self._roster, self.listener, self.metrics = to, roster, listener, metrics

    async def completion(self, http: Http) -> Response:
        """Forward ``POST /v1/completions``; raises as ``chat`` does."""
        return await self._answer(await read(ForwardedCompletion, http), "completions", http)

    async def chat(self, http: Http) -> Response:
        """Forward ``POST /v1/chat/completions``.

        Raises:
            ApiError: the request is none, or the server does not answer it.
        """
        return await self._answer(await read(ForwardedChat, http), "chat/completions", http)

    async def _answer(self, request: ForwardedCompletion | ForwardedChat, path: str, http: Http) -> Response:
        """Forward a request.

        Raises:
            ApiError: there is no such model, or the server does not answer.
        """
        if request.choices:
            raise ApiError(400, "choices are ranked where the model is loaded, not before a server", None, "choices")
        served = self._roster.resolve(request.model)
        body = json.loads(await http.body())
        body = {key: value for key, value in body.items() if key not in OWN} | {"model": served.there}
        going = self._forward(json.dumps(body).encode(), path, Reading(self, request, served))
        return await unless_gone(going, http)

    async def _forward(self, body: bytes, path: str, listener: "Reading") -> Response:
        """Send a request on, and hand its answer back as it comes.

        Args:
            body: of the request, with the name that is known there.
            path: of the API.
            listener: is told the answer.

        Raises:
            ApiError: the server cannot be reached, or answers with an error.
        """
        sent = self._to.forwarding.build_request(
            "POST",
            f"{self._to.url}/{path}",
            content=body,
            headers={**self._to.headers, "Content-Type": "application/json"},
        )
        try:
            reply = await self._to.forwarding.send(sent, stream=True)
        except httpx2.TimeoutException:
            raise ApiError(504, f"{self._to.origin} did not answer in time", "upstream_timeout") from None
        except httpx2.HTTPError as error:
            words = f"{self._to.origin} cannot be reached ({type(error).__name__})"
            raise ApiError(502, words, "upstream_unreachable") from None
        headers = {name: told for name in KEPT if _sound(told := reply.headers.get(name, ""))}
        if not reply.is_success:
            raise await self._refused(reply, headers)
        if listener.streams:
            return StreamingResponse(_parts(reply, listener), 200, headers)
        return Response(await self._whole(reply, listener), 200, headers)

    async def _whole(self, reply: httpx2.Response, listener: "Reading") -> bytes:
        """Return an answer that is wanted whole, once it is."""
        body, broken = bytearray(), "an answer that is too large"
        try:
            async for part in reply.aiter_bytes():
                body += part
                if len(body) > MOST_REPLY:
                    break
            else:
                broken = "" if listener.whole(bytes(body)) else "no completion"
        except httpx2.HTTPError:
            broken = "half of an answer"
        finally:
            await reply.aclose()
        if broken:
            raise ApiError(502, f"{self._to.origin} sent {broken}", "upstream_broken")
        return bytes(body)

    async def _refused(self, reply: httpx2.Response, headers: dict[str, str]) -> ApiError:
        """Return an error of the server's, in this one's shape."""
        told = bytearray()
        with contextlib.suppress(httpx2.HTTPError):
            async for part in reply.aiter_bytes():
                told += part
                if len(told) > MOST_ERROR:
                    break
        await reply.aclose()
        words = self._to.said(bytes(told)) or f"HTTP {reply.status_code}"
        status = reply.status_code if 400 <= reply.status_code < 500 and reply.status_code != 401 else 502
        again = {name: value for name, value in headers.items() if name == "retry-after"}
        return ApiError(status, f"{self._to.origin}: {words}", "upstream_error", None, again)


class Reading:
    """Reads what is handed back, as far as feedback needs it: the response's id and its text."""

    def __init__(self, asked: "Forwarder", request: ForwardedCompletion | ForwardedChat, served: Served) -> None:
        self._asked, self._request, self._served = asked, request, served
        self._began = time.monotonic()

    @property
    def streams(self) -> bool:
        """Whether the answer is wanted as a stream."""
        return bool(self._request.stream)

    def first(self) -> None:
        """Take the time of the first part."""
        self._asked.metrics.first.observe(time.monotonic() - self._began)

    def whole(self, told: bytes) -> bool:
        """Take an answer, of a stream the beginning; return whether it is one."""
        text = told.decode("utf-8", "replace")
        if self.streams:
            text = next((line[6:] for line in text.split("\n") if line.startswith("data: {")), "")
        try:
            reply = _Reply.model_validate_json(text)
        except ValidationError:
            return False
        self._asked.metrics.answers.labels(self._served.name).inc()
        listener, auto = self._asked.listener, self._request.model == AUTO
        if self._request.asked[0]:  # else tokens or pictures, of which nothing is learnt
            listener.asked(reply.id, self._request, self._served, auto=auto)
        if reply.choices and not self.streams:  # what a stream wrote is not put together
            first = reply.choices[0]
            said = first.message.content if first.message else first.text
            if said is not None:  # as a call of a tool has none
                listener.answered(reply.id, said, None)
        return True


def _sound(value: str) -> bool:
    """Return whether a header can be handed on: there is one, of printable ASCII."""
    return bool(value) and value.isascii() and value.isprintable()


async def _parts(reply: httpx2.Response, listener: Reading) -> AsyncIterator[bytes]:
    """Yield an answer as it comes, up to a size."""
    kept, size = bytearray(), 0
    try:
        async for part in reply.aiter_bytes():
            if not size:
                listener.first()
            size += len(part)
            if size > MOST_REPLY:
                yield _broken("the answer is too large", "upstream_broken")
                break
            if len(kept) < MOST_ERROR:
                kept += part
            yield part
    except httpx2.HTTPError:
        yield _broken("the answer broke off", "upstream_broke_off")
    finally:
        await reply.aclose()
        listener.whole(bytes(kept))


def _broken(words: str, code: str) -> bytes:
    """Return the event that ends a stream for which there is no better end; what broke off may be half of a line."""
    return f"\n\ndata: {json.dumps(ApiError(502, words, code).body())}\n\n".encode()
