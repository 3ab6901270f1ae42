"""Requests as OpenAI's clients send them. Keys that are not known are passed over, as OpenAI does.

What would change an answer and is not supported is refused, and not passed over.
"""

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from starlette.requests import Request as Http

from agent.server.errors import invalid
from cao.tasks.base import LETTERS
from cao.tasks.files.chats import asked_in
from cao.types import Message

MOST_ROWS = 16
"""Texts that one request asks for, at most."""

Text = Annotated[str, Field(min_length=1)]
Body = TypeVar("Body", bound=BaseModel)
StopText = Annotated[str, Field(min_length=1, max_length=256)]


def _listed(value: object) -> object:
    """Return one text as a list of it, so that a mistake is told of the text and not of what else might stand there."""
    return [value] if isinstance(value, str) else value


OneOrMore = BeforeValidator(_listed)


async def read(kind: type[Body], http: Http) -> Body:
    """Return a request's body.

    Args:
        kind: what it must be.
        http: the request.

    Raises:
        ApiError: it is something else.
    """
    try:
        return kind.model_validate_json(await http.body())
    except ValidationError as error:
        raise invalid(error) from None


class StreamOptions(BaseModel):
    """``stream_options``."""

    include_usage: bool = False


class ResponseFormat(BaseModel):
    """``response_format``, of which text alone is known."""

    type: str = "text"


class Part(BaseModel):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Field(max_length=256)] | None = None

    @property
    def text(self) -> str:
        """What it says."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content or ())


class Request(BaseModel):
    """What both kinds of requests have.

    Attributes:
        choices: an extension: of these texts one is the answer, ranked by the model's own rule.
        context: with it: a passage that the question is about.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    model: Annotated[str, Field(min_length=1, max_length=256)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_ROWS)] | None = None
    stop: Annotated[list[StopText], OneOrMore, Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    choices: Annotated[list[Text], Field(min_length=2, max_length=len(LETTERS))] | None = None
    context: str | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _supported(self) -> "Request":
        if self.presence_penalty or self.frequency_penalty or self.logit_bias:
            raise ValueError("penalties and logit_bias are not supported")
        if self.response_format and self.response_format.type != "text":
            raise ValueError("response_format: text alone is supported")
        return self

    @property
    def count(self) -> int:
        """How many texts are asked for, for each prompt."""
        return self.n or 1

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end an answer."""
        return tuple(self.stop or ())

    @property
    def usage_at_end(self) -> bool:
        """Whether a stream ends with what it took."""
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionRequest(Request):
    """``POST /v1/completions``."""

    prompt: Annotated[list[str], OneOrMore, Field(min_length=1, max_length=MOST_ROWS)]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None

    @model_validator(mode="after")
    def _plain(self) -> "CompletionRequest":
        if self.echo or self.suffix or (self.best_of or 1) != 1:
            raise ValueError("echo, suffix and best_of are not supported")
        if len(self.prompt) * self.count > MOST_ROWS:
            raise ValueError(f"more than {MOST_ROWS} texts in one request; send several")
        if self.choices and len(self.prompt) > 1:
            raise ValueError("choices belong to one prompt")
        return self

    @property
    def asked(self) -> tuple[str, str]:
        """The first prompt, and the context that was given."""
        return self.prompt[0], self.context or ""


class ChatRequest(Request):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1024)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[object] | None = None
    functions: list[object] | None = None

    @field_validator("messages")
    @classmethod
    def _asks(cls, messages: list[ChatMessage]) -> list[ChatMessage]:
        if not any(message.role == "user" and message.text.strip() for message in messages):
            raise ValueError("a chat without a message of the user")
        return messages

    @model_validator(mode="after")
    def _plain(self) -> "ChatRequest":
        if self.tools or self.functions:
            raise ValueError("tools and functions are not supported")
        if self.top_logprobs:
            raise ValueError("top_logprobs is not supported; logprobs gives those of the tokens that were written")
        return self

    @property
    def asked(self) -> tuple[str, str]:
        """The user's last message, and its context: what was given as such, and the turns before as a file has them."""
        said: list[dict[str, object]] = [
            {"role": it.role, "content": it.text} for it in self.messages if it.text.strip()
        ]
        return asked_in(said, self.context or "")

    @property
    def chat(self) -> list[Message]:
        """The messages as a chat template takes them."""
        roles = {"developer": "system"}
        return [{"role": roles.get(one.role, one.role), "content": one.text} for one in self.messages]


class Feedback(BaseModel):
    """``POST /v1/feedback``: what is known of an answer that this server gave.

    Attributes:
        id: of the response.
        correct: whether its answer was right.
        answer: the right one: a choice's index, letter or text; without choices a text.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    id: Annotated[str, Field(min_length=1, max_length=128)]
    correct: bool | None = None
    answer: int | Annotated[str, Field(min_length=1, max_length=10_000)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Feedback":
        if self.correct is None and self.answer is None:
            raise ValueError("say whether it was correct, or the right answer")
        return self
