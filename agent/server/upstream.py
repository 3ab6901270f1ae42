"""Before a server that exists: requests are forwarded to it, under the name of the base model or of what was adopted.

It is not trusted: it is followed to no other host, an error of it is read up to a size, and its key, which comes from
the environment, is taken out of what it says is wrong. Adapters are loaded into it by vLLM's dynamic LoRA calls.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
from pydantic import BaseModel, ValidationError
from starlette.requests import Request as Http
from starlette.responses import Response, StreamingResponse

from agent.handover.served import on_server
from agent.handover.verify import PROMPTS
from agent.record.schema import RunRecord
from agent.server.errors import ApiError
from agent.server.listening import Listener
from agent.server.metrics import Metrics
from agent.server.roster import Roster, Served
from agent.server.settings import AUTO, BASE, ServeOptions
from agent.server.wire import ChatRequest, CompletionRequest
from cao.errors import InputError, UnavailableError
from policies.client.address import is_loopback, origin
from policies.client.secret import Secret

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


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


class _Reply(BaseModel):
    id: str
    choices: list[_Choice] = []


class Upstream:
    """Forwards requests, and loads adapters."""

    def __init__(self, options: ServeOptions, metrics: Metrics) -> None:
        """Prepare; nothing is sent.

        Args:
            options: of this server.
            metrics: count answers.

        Raises:
            InputError: this is no address.
            UnavailableError: an address that offline work forbids.
        """
        url = str(options.upstream).rstrip("/")
        local = is_loopback(url)
        if options.offline and not local:
            raise UnavailableError(f"{origin(url)} is not on this machine; run without --offline or give another one")
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        self._url, self._secret, self._metrics, self._offline = url, Secret(key), metrics, options.offline
        self._timeout_s = options.timeout_s
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        how = {"trust_env": not local, "follow_redirects": False, "timeout": options.timeout_s}
        limits = httpx2.Limits(max_connections=options.queue, max_keepalive_connections=options.batch)
        self._client = httpx2.AsyncClient(**how, limits=limits)  # type: ignore[arg-type]
        self._asking = httpx2.Client(**how)  # type: ignore[arg-type]

    def base(self, name: str) -> Served:
        """Return the base model as it is served there.

        Args:
            name: by which it is known there.

        Raises:
            InputError: it is known by another name.
            UnavailableError: nobody answers there.
        """
        names = self._names()
        if names and name not in names:
            few = ", ".join(sorted(names)[:5])
            raise InputError(f"{origin(self._url)} serves no {name!r}, but {few}; give --upstream-model another name")
        return Served(BASE, there=name)

    def open(self, base: str, task: str, folder: Path, record: RunRecord) -> Served:
        """Load what a run adopted into the server, and see that it acts there.

        Args:
            base: the base model's name there.
            task: the run adapted to.
            folder: of the run.
            record: of the run.

        Raises:
            InputError: what was adopted is more than one adapter, so no such server can answer by it.
            UnavailableError: the server does not load it, or serves the base model under its name.
        """
        adopted = record.adopted
        if adopted is None or adopted.adapter is None or adopted.together or adopted.latent:
            raise InputError(f"run {record.run_id}: adopted no single adapter, which is all that a server can load")
        name = f"{task}-{record.run_id}"
        there = (folder / adopted.adapter.path).absolute()
        if not there.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{folder}: names an adapter outside it")
        if name not in self._names():  # it may have outlived an earlier process of this server
            self._lora("load_lora_adapter", {"lora_name": name, "lora_path": str(there)})
        verdict = on_server(self._url, base, name, list(PROMPTS[:3]), offline=self._offline)
        if not verdict.acts:
            self._unload(name)
            raise UnavailableError(f"{origin(self._url)} took the adapter, and it does not act there: {verdict.reason}")
        return Served(task, there=name, run_id=record.run_id)

    def close(self, model: Served) -> None:
        """Have the server forget an adapter, once requests that were sent by its name have had their time."""

        def forget() -> None:
            with contextlib.suppress(UnavailableError):
                self._unload(model.there)

        later = threading.Timer(self._timeout_s, forget)
        later.daemon = True
        later.start()

    def _names(self) -> set[str]:
        """Return the names that the server serves."""
        try:
            told = self._asking.get(f"{self._url}/models", headers=self._headers)
        except httpx2.HTTPError as error:
            at = f"{origin(self._url)} cannot be reached ({type(error).__name__})"
            raise UnavailableError(f"{at}; start that server first, or give another --upstream") from None
        try:
            return {one.id for one in _Models.model_validate_json(told.content).data}
        except ValidationError:
            return set()

    def _unload(self, name: str) -> None:
        self._lora("unload_lora_adapter", {"lora_name": name})

    def _lora(self, call: str, body: dict[str, str]) -> None:
        try:
            status = self._asking.post(f"{self._url}/{call}", json=body, headers=self._headers).status_code
        except httpx2.HTTPError as error:
            raise UnavailableError(f"{origin(self._url)} cannot be reached ({type(error).__name__})") from None
        if status != 200:
            how = "vLLM does with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and --enable-lora"
            raise UnavailableError(f"{origin(self._url)} answered {call} with HTTP {status}; {how}")

    async def forward(self, body: bytes, path: str, listener: "Forwarding") -> Response:
        """Send a request on, and hand its answer back as it comes.

        Args:
            body: of the request, with the name that is known there.
            path: of the API.
            listener: is told the answer.

        Raises:
            ApiError: the server cannot be reached, or answers with an error.
        """
        sent = self._client.build_request(
            "POST", f"{self._url}/{path}", content=body, headers={**self._headers, "Content-Type": "application/json"}
        )
        try:
            reply = await self._client.send(sent, stream=True)
        except httpx2.TimeoutException:
            raise ApiError(504, f"{origin(self._url)} did not answer in time", "upstream_timeout") from None
        except httpx2.HTTPError as error:
            words = f"{origin(self._url)} cannot be reached ({type(error).__name__})"
            raise ApiError(502, words, "upstream_unreachable") from None
        headers = {name: reply.headers[name] for name in KEPT if name in reply.headers}
        if not reply.is_success:
            raise await self._refused(reply, headers)
        if listener.streams:
            return StreamingResponse(_parts(reply, listener), 200, headers)
        return Response(await self._whole(reply, listener), 200, headers)

    async def _whole(self, reply: httpx2.Response, listener: "Forwarding") -> bytes:
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
            raise ApiError(502, f"{origin(self._url)} sent {broken}", "upstream_broken")
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
        try:
            words = str(json.loads(told)["error"]["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            words = f"HTTP {reply.status_code}"
        status = reply.status_code if 400 <= reply.status_code < 500 and reply.status_code != 401 else 502
        again = {name: value for name, value in headers.items() if name == "retry-after"}
        message = f"{origin(self._url)}: {self._secret.redact(words)}"
        return ApiError(status, message, "upstream_error", None, again)


class Forwarding:
    """Reads what is handed back, as far as feedback needs it: the response's id and its text."""

    def __init__(self, asked: "Forwarder", request: CompletionRequest | ChatRequest, served: Served) -> None:
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
            text = next((line[6:] for line in text.splitlines() if line.startswith("data: {")), "")
        try:
            reply = _Reply.model_validate_json(text)
        except ValidationError:
            return False
        self._asked.metrics.answers.labels(self._served.name).inc()
        listener, auto = self._asked.listener, self._request.model == AUTO
        listener.asked(reply.id, self._request, self._served, auto=auto)
        first = reply.choices[0] if reply.choices and not self.streams else _Choice()
        listener.answered(reply.id, first.text or (first.message and first.message.content) or "", None)
        return True


class Forwarder:
    """Answers by a server behind this one."""

    def __init__(self, upstream: Upstream, roster: Roster, listener: Listener, metrics: Metrics) -> None:
        """Prepare.

        Args:
            upstream: the server.
            roster: what is served.
            listener: is told questions and answers.
            metrics: count them.
        """
        self._upstream, self._roster, self.listener, self.metrics = upstream, roster, listener, metrics

    async def answer(self, request: CompletionRequest | ChatRequest, http: Http) -> Response:
        """Forward a request.

        Raises:
            ApiError: there is no such model, or the server does not answer.
        """
        if request.choices:
            raise ApiError(400, "choices are ranked where the model is loaded, not before a server", None, "choices")
        served = self._roster.resolve(request.model)
        body = json.loads(await http.body())
        body = {key: value for key, value in body.items() if key not in OWN} | {"model": served.there}
        path = "chat/completions" if isinstance(request, ChatRequest) else "completions"
        return await self._upstream.forward(json.dumps(body).encode(), path, Forwarding(self, request, served))


async def _parts(reply: httpx2.Response, listener: Forwarding) -> AsyncIterator[bytes]:
    """Yield an answer as it comes, up to a size."""
    kept, size = bytearray(), 0
    try:
        async for part in reply.aiter_bytes():
            if not size:
                listener.first()
            size += len(part)
            if size > MOST_REPLY:
                break
            if len(kept) < MOST_ERROR:
                kept += part
            yield part
    except httpx2.HTTPError:
        error = ApiError(502, "the answer broke off", "upstream_broke_off")
        yield f"data: {json.dumps(error.body())}\n\n".encode()
    finally:
        await reply.aclose()
        listener.whole(bytes(kept))
