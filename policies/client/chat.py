"""One guarded conversation with a server that speaks OpenAI's chat API, within a budget.

The server is not trusted: a reply is decoded by our own small models, and whatever it is, it comes back as a typed
outcome.
"""

import json
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from cao.errors import UnavailableError
from cao.inference.calls import Call, telling
from cao.policy_settings import PolicySettings
from cao.types import Message, Record
from policies.base import RequestForm
from policies.client.address import OFFICIAL_URL
from policies.client.limits import FORMS, PRICES
from policies.client.transport import FAILURES, Transport, with_retries
from policies.extract import first_object

REFUSALS = (400, 422, 501)
"""Statuses of a server that does not know a form of request, or cannot compile the schema."""


class ChatReply(Record):
    """What the server said.

    Attributes:
        text: the reply's text, the body itself where it is no completion, empty where there is none.
        outcome: what became of the request.
    """

    text: str
    outcome: Literal["complete", "truncated", "refused", "empty", "not_a_completion"]


Tokens = Annotated[int, Field(ge=0, le=10**9)]
"""What a server may say that it counted; more is no count, and would not fit into a float."""


class _Usage(BaseModel):
    prompt_tokens: Tokens
    completion_tokens: Tokens


class _Charged(BaseModel):
    usage: _Usage


class _Part(BaseModel):
    text: str | None = None


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    tool_calls: object = None
    function_call: object = None

    def said(self) -> str:
        """Return the text with the answer in it: the content, or the arguments of a call where they hold the object."""
        parts = self.content if isinstance(self.content, list) else [_Part(text=self.content)]
        calls = [call.get("function") for call in _list(self.tool_calls) if isinstance(call, dict)]
        given = [call.get("arguments") for call in [*calls, self.function_call] if isinstance(call, dict)]
        texts = ["".join(part.text or "" for part in parts)]
        texts += [text if isinstance(text, str) else json.dumps(text) for text in given if text]
        return next((text for text in texts if first_object(text) is not None), next(filter(None, texts), ""))


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: list[_Choice]


class ChatClient:
    """Asks for JSON under a schema, within a budget of requests and dollars.

    Attributes:
        form: the form of request in use: the strictest that the server has not refused.
        spent_requests: requests sent, retries included.
        spent_dollars: their cost, 0 where the model's price is not known.
    """

    def __init__(self, settings: PolicySettings, *, offline: bool) -> None:
        """Prepare the client; nothing is sent.

        Args:
            settings: model, address, deadline and budget.
            offline: refuse every address but this machine's own.

        Raises:
            UnavailableError: no key, or an address that offline work forbids.
        """
        url = settings.base_url or OFFICIAL_URL  # never the SDK's environment variable: offline must hold
        self._settings = settings
        self._transport = Transport(url, settings.timeout_s, offline=offline)
        self.form: RequestForm = FORMS[0]
        self.spent_requests = 0
        self.spent_dollars = 0.0

    def __repr__(self) -> str:
        return f"ChatClient({self._transport.origin}, {self._settings.openai_model})"

    def ask(
        self,
        messages: list[Message],
        schema: Mapping[str, object],
        *,
        seed: int,
        max_tokens: int,
        temperature: float | None = None,
    ) -> ChatReply:
        """Return the reply to one conversation.

        A form of request that the server refuses gives way to the next weaker one, for good once that is taken.

        Args:
            messages: what to say; it names JSON, which the weaker forms need.
            schema: of the object that the reply shall be; its root is one object.
            seed: passed on; servers honour it as well as they can.
            max_tokens: of the reply.
            temperature: another one than the settings'.

        Raises:
            UnavailableError: refused, unreachable after several attempts, or out of budget.
        """
        settings = self._settings
        request: dict[str, Any] = {
            "model": settings.openai_model,
            "messages": messages,
            "seed": seed % 2**31,
            "temperature": min(settings.temperature if temperature is None else temperature, 2.0),
            "top_p": settings.top_p,
            "max_tokens" if settings.base_url else "max_completion_tokens": max_tokens,
        }
        forms = FORMS[FORMS.index(self.form) :]
        for form in forms:
            asked = {**request, **_response_format(form, schema)}
            try:
                body = with_retries(partial(self._send_once, asked, max_tokens))
            except FAILURES as error:
                refused = getattr(error, "status_code", None) in REFUSALS
                if refused and form != forms[-1]:
                    continue
                how = f", asked in {len(forms)} forms ({', '.join(forms)})" if refused and len(forms) > 1 else ""
                raise self._transport.unavailable(error, settings.openai_model, how) from None
            self.form = form
            return self._read(body)
        raise AssertionError("the last form returns or raises")

    def _send_once(self, request: dict[str, Any], max_tokens: int) -> bytes:
        settings = self._settings
        # a token is a byte at least, so this is the most that the request can cost
        most = _cost(
            settings.openai_model,
            sum(len(m["content"].encode()) + 16 for m in request["messages"]),
            max_tokens,
        )
        if self.spent_requests >= settings.max_requests:
            raise UnavailableError(f"the budget of {settings.max_requests} requests is spent; raise max_requests")
        if self.spent_dollars + most > settings.max_dollars:
            raise UnavailableError(f"the budget of {settings.max_dollars} dollars is spent; raise max_dollars")
        self.spent_requests += 1
        self.spent_dollars += most  # a request that fails may be charged all the same
        call = Call(
            operation="chat",
            provider="openai",
            model=settings.openai_model,
            server=self._transport.origin,
            max_tokens=max_tokens,
            temperature=request["temperature"],
            top_p=settings.top_p,
        )
        with telling(call) as told:
            body = self._transport.read(self._transport.sdk.chat.completions.with_streaming_response.create(**request))
            if usage := _usage(body):
                told.add(usage.prompt_tokens, usage.completion_tokens)
        if usage:  # else it costs the most that it can
            cost = _cost(settings.openai_model, usage.prompt_tokens, usage.completion_tokens)
            self.spent_dollars -= most - min(most, cost)
        return body

    def _read(self, body: bytes) -> ChatReply:
        try:
            choices = _Completion.model_validate_json(body).choices
        except ValidationError:
            return ChatReply(text=self._transport.redact(body.decode("utf-8", "replace")), outcome="not_a_completion")
        if not choices:
            return ChatReply(text="", outcome="empty")
        message, said = choices[0].message, self._transport.redact(choices[0].message.said())
        if message.refusal:
            return ChatReply(text=said, outcome="refused")
        if choices[0].finish_reason == "length":
            return ChatReply(text=said, outcome="truncated")
        return ChatReply(text=said, outcome="complete" if said else "empty")


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _cost(model: str, prompt_tokens: int, completion_tokens: int) -> float:
    price_in, price_out = PRICES.get(model, (0.0, 0.0))
    return prompt_tokens * price_in + completion_tokens * price_out


def _usage(body: bytes) -> _Usage | None:
    """Return the tokens that the server counted, None where it does not say or says no count."""
    try:
        return _Charged.model_validate_json(body).usage
    except ValidationError:
        return None


def _response_format(form: RequestForm, schema: Mapping[str, object]) -> dict[str, object]:
    """Return the part of a request that a form adds; plain text adds nothing, as the oldest servers expect."""
    if form == "text":
        return {}
    more = {"json_schema": {"name": "reply", "strict": True, "schema": schema}} if form == "json_schema" else {}
    return {"response_format": {"type": form, **more}}
