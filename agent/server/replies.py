"""Answers as OpenAI's clients read them: whole, or as a stream of events."""

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import JsonValue

from agent.handover.model import Answer
from agent.server.writing import Ending
from cao.model.language_model import LanguageModel

Kind = Literal["chat.completion", "text_completion"]
DONE = "data: [DONE]\n\n"


@dataclass
class Written:
    """One text of an answer.

    Attributes:
        text: all of it.
        tokens: of it, those of the end included.
        logprobs: of these, nats, where they were wanted.
        ending: why it ended.
        answer: what a model's own rule made of the choices, where some were given.
    """

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ending: Ending | None = None
    answer: Answer | None = None


@dataclass(frozen=True)
class Head:
    """What every part of one answer begins with.

    Attributes:
        kind: chat, or plain completion.
        model: who answers.
        id: of the response.
        created: seconds since 1970.
    """

    kind: Kind
    model: str
    id: str
    created: int

    def whole(self, texts: Sequence[Written], prompt_tokens: int, lm: LanguageModel) -> dict[str, JsonValue]:
        """Return the whole answer."""
        choices: list[JsonValue] = [self._choice(i, one, lm) for i, one in enumerate(texts)]
        return {**self._begun(self.kind), "choices": choices, "usage": usage(prompt_tokens, texts)}

    def event(self, index: int, new: Written, lm: LanguageModel, *, first: bool) -> str:
        """Return one event of a stream.

        Args:
            index: of the text.
            new: what is new of it.
            lm: whose tokens they are.
            first: whether it is the text's first event.
        """
        chat = self.kind == "chat.completion"
        choice: dict[str, JsonValue] = {
            "index": index,
            "finish_reason": new.ending,
            "logprobs": self._logprobs(new, lm),
        }
        if chat:
            opening: dict[str, JsonValue] = {"role": "assistant"} if first else {}
            choice["delta"] = {**opening, **({"content": new.text} if new.text or first else {})}
        else:
            choice["text"] = new.text
        choice |= _ranked(new)
        return self._sent({"choices": [choice]})

    def last(self, texts: Sequence[Written], prompt_tokens: int) -> str:
        """Return the event that says what a stream took."""
        return self._sent({"choices": [], "usage": usage(prompt_tokens, texts)})

    def _choice(self, index: int, one: Written, lm: LanguageModel) -> dict[str, JsonValue]:
        told: dict[str, JsonValue] = {"index": index, "finish_reason": one.ending, "logprobs": self._logprobs(one, lm)}
        if self.kind == "chat.completion":
            return {**told, "message": {"role": "assistant", "content": one.text, "refusal": None}, **_ranked(one)}
        return {**told, "text": one.text, **_ranked(one)}

    def _logprobs(self, one: Written, lm: LanguageModel) -> dict[str, JsonValue] | None:
        if not one.logprobs:
            return None
        names = [str(lm.tokenizer.decode([token])) for token in one.tokens]
        if self.kind == "chat.completion":
            pairs = zip(names, one.logprobs, strict=True)
            return {"content": [{"token": n, "logprob": p, "bytes": None, "top_logprobs": []} for n, p in pairs]}
        return {"tokens": list(names), "token_logprobs": list(one.logprobs), "top_logprobs": None, "text_offset": []}

    def _sent(self, content: dict[str, JsonValue]) -> str:
        kind = "chat.completion.chunk" if self.kind == "chat.completion" else self.kind
        return event({**self._begun(kind), **content})

    def _begun(self, kind: str) -> dict[str, JsonValue]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def head(kind: Kind, model: str) -> Head:
    """Return the head of a new answer."""
    short = "chatcmpl" if kind == "chat.completion" else "cmpl"
    return Head(kind, model, f"{short}-{secrets.token_hex(12)}", int(time.time()))


def event(content: object) -> str:
    """Return one server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False, allow_nan=False)}\n\n"


def usage(prompt_tokens: int, texts: Sequence[Written]) -> dict[str, JsonValue]:
    """Return what an answer took."""
    written = sum(len(one.tokens) for one in texts)
    return {"prompt_tokens": prompt_tokens, "completion_tokens": written, "total_tokens": prompt_tokens + written}


def _ranked(one: Written) -> dict[str, JsonValue]:
    """Return what is said of ranked choices, beside what OpenAI's clients know."""
    if one.answer is None:
        return {}
    return {"cao": {"choice": one.answer.choice, "scores": list(one.answer.scores)}}
