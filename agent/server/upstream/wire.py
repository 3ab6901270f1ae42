"""Requests for a server behind this one: read no further than this one needs; the rest is for that one."""

from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from cao.tasks.files.chats import asked_in, has_user
from cao.tasks.files.rows import BadRowError

NOTHING = ("", "")


class Forwarded(BaseModel):
    """What both kinds of requests have.

    Attributes:
        choices: an extension of this server's own, which cannot be forwarded.
        context: with it: a passage that the question is about.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    model: Annotated[str, Field(min_length=1, max_length=256)]
    stream: bool | None = None
    choices: list[str] | None = None
    context: str | None = None


class ForwardedCompletion(Forwarded):
    """``POST /v1/completions``: a prompt, several, or tokens."""

    prompt: str | list[JsonValue]

    @property
    def asked(self) -> tuple[str, str]:
        """The first prompt, empty where it is given as tokens, and the context that was given."""
        first = self.prompt if isinstance(self.prompt, str) else next(iter(self.prompt), "")
        return (first, self.context or "") if isinstance(first, str) and first.strip() else NOTHING


class ForwardedChat(Forwarded):
    """``POST /v1/chat/completions``."""

    messages: list[dict[str, JsonValue]]

    @cached_property
    def asked(self) -> tuple[str, str]:
        """The user's last message and its context, as a file has them; empty where no user says anything in words."""
        said: list[dict[str, object]] = [dict(one) for one in self.messages if "role" in one]
        try:
            question, context = asked_in(said, self.context or "") if has_user(said) else NOTHING
        except BadRowError:
            return NOTHING
        return (question, context) if question.strip() else NOTHING
