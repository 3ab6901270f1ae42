"""Answers by the model that is loaded here: requests become jobs of its thread, and what it writes responses."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as Http
from starlette.responses import JSONResponse, Response, StreamingResponse

from agent.handover.model import MOST_TOKENS
from agent.server.engine import Call, Engine, FullError, Job, Text
from agent.server.errors import ApiError, of_cao
from agent.server.listening import Listener
from agent.server.metrics import Metrics
from agent.server.replies import DONE, Head, Kind, Written, event, head
from agent.server.roster import Roster, Served
from agent.server.settings import AUTO
from agent.server.web import unless_gone
from agent.server.wire import ChatRequest, CompletionRequest, read
from agent.server.writing import Ending, Piece, Sampling, Writing
from cao.errors import CaoError
from cao.inference.chat import chat_prompt
from cao.inference.scoring import context_length, start_token

LONGEST_TOKEN = 40  # characters; a text with more for each token that is read is refused unread
COMPLETION_TOKENS = 16  # of a plain completion that states no budget, as OpenAI has it
Told = tuple[int, Piece | Written | Exception]
"""Which text, and what is new of it."""


@dataclass
class Asked:
    """A request under way.

    Attributes:
        head: of its answer.
        jobs: of the model's thread.
        texts: what is written so far.
        prompt_tokens: that were read.
        told: what comes from the model's thread.
    """

    head: Head
    jobs: list[Job]
    texts: list[Written]
    prompt_tokens: int
    told: "asyncio.Queue[Told]"

    def leave(self) -> None:
        """Have the model's thread drop it: nobody waits any more."""
        for job in self.jobs:
            job.leave()

    def take(self, index: int, new: Piece | Written | Exception) -> Written:
        """Add what is new of a text, and return it alone.

        Raises:
            ApiError: the text cannot be written.
        """
        if isinstance(new, Exception):
            self.leave()
            raise _failed(new)
        if isinstance(new, Written):
            self.texts[index] = new
            return new
        fresh = Written(new.text, list(new.tokens), list(new.logprobs), new.ending)
        whole = self.texts[index]
        self.texts[index] = Written(
            whole.text + fresh.text, whole.tokens + fresh.tokens, whole.logprobs + fresh.logprobs, fresh.ending
        )
        return fresh

    @property
    def going(self) -> bool:
        """Whether any text is still to end."""
        return any(one.ending is None for one in self.texts)


class Local:
    """Answers here."""

    def __init__(self, engine: Engine, roster: Roster, listener: Listener, metrics: Metrics, most_tokens: int) -> None:
        """Prepare.

        Args:
            engine: the model's thread.
            roster: what is served.
            listener: is told questions and answers.
            metrics: count tokens.
            most_tokens: of one answer.
        """
        self._engine, self._roster, self._listener, self._metrics = engine, roster, listener, metrics
        self._most_tokens = most_tokens

    async def completion(self, http: Http) -> Response:
        """Answer ``POST /v1/completions``; raises as ``chat`` does."""
        return await self._answer(await read(CompletionRequest, http), http)

    async def chat(self, http: Http) -> Response:
        """Answer ``POST /v1/chat/completions``.

        Raises:
            ApiError: the request is none, or cannot be answered.
        """
        return await self._answer(await read(ChatRequest, http), http)

    async def _answer(self, request: CompletionRequest | ChatRequest, http: Http) -> Response:
        """Answer a request.

        Raises:
            ApiError: there is no such model, no room, or nothing to be said.
        """
        served = self._roster.resolve(request.model)
        kind: Kind = "chat.completion" if isinstance(request, ChatRequest) else "text_completion"
        top, told = head(kind, served.name), asyncio.Queue[Told]()
        make = self._ranking if request.choices else self._writing
        asked = await run_in_threadpool(make, request, served, top, told, _sender(told))
        if len(asked.jobs) > self._engine.room:
            words = (
                f"{len(asked.jobs)} texts in one request, and --queue has room for {self._engine.room}; send several"
            )
            raise ApiError(400, words, "too_many_texts", "n")
        try:
            self._engine.submit(asked.jobs)
        except FullError as full:
            raise ApiError(429, str(full), "queue_full", None, {"Retry-After": str(full.seconds)}) from None
        self._listener.asked(top.id, request, served, auto=request.model == AUTO)
        self._metrics.tokens.labels("prompt").inc(asked.prompt_tokens)
        try:
            first = await unless_gone(told.get(), http)
            if request.stream:
                events = self._events(asked, first, usage=request.usage_at_end)
                return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
            asked.take(*first)
            while asked.going:
                asked.take(*await unless_gone(told.get(), http))
        except BaseException:
            asked.leave()
            raise
        self._done(asked)
        return JSONResponse(asked.head.whole(asked.texts, asked.prompt_tokens, self._engine.lm))

    async def _events(self, asked: Asked, first: Told, *, usage: bool) -> AsyncIterator[str]:
        """Yield an answer as server-sent events."""
        began = set[int]()
        try:
            while True:
                index, new = first if not began else await asked.told.get()
                fresh = asked.take(index, new)
                yield asked.head.event(index, fresh, self._engine.lm, first=index not in began)
                began.add(index)
                if not asked.going:
                    break
        except ApiError as error:
            yield event(error.body())
        else:
            self._done(asked)
            if usage:
                yield asked.head.last(asked.texts, asked.prompt_tokens)
        finally:
            asked.leave()
        yield DONE

    def _done(self, asked: Asked) -> None:
        self._metrics.answers.labels(asked.head.model).inc(len(asked.texts))
        self._metrics.tokens.labels("completion").inc(sum(len(one.tokens) for one in asked.texts))
        one = asked.texts[0]
        self._listener.answered(asked.head.id, one.text, one.answer.choice if one.answer else None)

    def _ranking(
        self,
        request: CompletionRequest | ChatRequest,
        served: Served,
        top: Head,
        told: "asyncio.Queue[Told]",
        send: Callable[[Told], None],
    ) -> Asked:
        """Return a request for one of several choices; the model's own rule says which one."""
        (question, context), model, choices = request.asked, served.model, tuple(request.choices or ())
        assert model is not None
        read = self._room_for("\n".join((context, question, *choices)))

        def make() -> None:
            try:
                answer = model.answer(question, choices, context=context)
                send((0, Written(answer.text, [], [], "stop", answer)))
            except Exception as error:  # noqa: BLE001  (whatever it is, this request fails and the others go on)
                send((0, error))

        return Asked(top, [Call(make)], [Written()], read, told)

    def _room_for(self, text: str) -> int:
        """Return the tokens of a question with its choices."""
        most = context_length(self._engine.lm)
        if len(text) <= LONGEST_TOKEN * most and (tokens := len(self._engine.lm.encode(text))) <= most:
            return tokens
        raise ApiError(400, f"longer than the {most} tokens that are read", "context_length_exceeded", "choices")

    def _writing(
        self,
        request: CompletionRequest | ChatRequest,
        served: Served,
        top: Head,
        told: "asyncio.Queue[Told]",
        send: Callable[[Told], None],
    ) -> Asked:
        """Return a request for texts."""
        lm = self._engine.lm
        chat = isinstance(request, ChatRequest)
        prompts = [chat_prompt(lm, request.chat)] if isinstance(request, ChatRequest) else request.prompt
        jobs, prompt_tokens = list[Job](), 0
        began = time.monotonic()

        def teller(index: int) -> Callable[[Piece | Exception], None]:
            fresh = [True]

            def tell(new: Piece | Exception) -> None:
                if request.stream and fresh:
                    fresh.clear()
                    self._metrics.first.observe(time.monotonic() - began)
                send((index, new))

            return tell

        virtual = lm.virtual_ids(served.worn.weights) if served.worn else []
        for prompt in prompts:
            tokens = lm.encode(prompt) or [start_token(lm)]
            prompt_tokens += len(tokens)
            tokens = virtual + tokens
            budget = self._budget(request, len(tokens), chat=chat)
            for k in range(request.count):
                sampling = Sampling(
                    budget,
                    1.0 if request.temperature is None else request.temperature,
                    1.0 if request.top_p is None else request.top_p,
                    None if request.seed is None else request.seed + k,
                    request.stops,
                    logprobs=bool(request.logprobs) or (not chat and request.logprobs is not None),
                    whole=not request.stream,
                )
                writing = Writing(tokens, sampling, teller(len(jobs)))
                jobs.append(
                    Call(_whole(served, prompt, writing)) if served.worn is None else Text(served.worn, writing)
                )
        return Asked(top, jobs, [Written() for _ in jobs], prompt_tokens, told)

    def _budget(self, request: CompletionRequest | ChatRequest, prompt: int, *, chat: bool) -> int:
        """Return the tokens that an answer may take: what is asked for, as far as there is room for it."""
        wanted = request.max_tokens
        if isinstance(request, ChatRequest):
            wanted = request.max_completion_tokens or wanted
        room = context_length(self._engine.lm) - prompt
        if room < 1:
            words = f"the prompt has {prompt} tokens, and the model reads {context_length(self._engine.lm)}"
            raise ApiError(400, words, "context_length_exceeded", "messages" if chat else "prompt")
        usual = self._most_tokens if chat else COMPLETION_TOKENS
        return min(wanted or usual, self._most_tokens, room)


def _whole(served: Served, prompt: str, writing: Writing) -> Callable[[], None]:
    """Return what writes a text by several adapters together, or with Latent's vectors: greedily, and in one piece."""
    model, how = served.model, writing.sampling
    assert model is not None, "what is served here has a model"

    def make() -> None:
        try:
            budget = min(how.max_tokens, MOST_TOKENS)
            text = model.generate(prompt, max_new_tokens=budget, stop=how.stop)
            tokens = model.lm.encode(text, special=False)
            ending: Ending = "length" if len(tokens) >= budget else "stop"
            writing.tell(Piece(text, tuple(tokens), (), ending))
        except Exception as error:  # noqa: BLE001  (whatever it is, this text fails and the others go on)
            writing.tell(error)

    return make


def _sender(told: "asyncio.Queue[Told]") -> Callable[[Told], None]:
    """Return what hands news from the model's thread to the server's; nobody may be there any more."""
    loop = asyncio.get_running_loop()

    def send(new: Told) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(told.put_nowait, new)

    return send


def _failed(error: Exception) -> ApiError:
    """Return what a request is told that failed in the model's thread."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, CaoError):
        return of_cao(error)
    sys.stderr.write(f"defect in a request: {type(error).__name__}: {str(error).splitlines()[:1]}\n")
    return ApiError(500, "the request failed inside the server", "internal_error")
