"""Chats as rows have them: OpenAI's messages, ShareGPT's conversations, and prompts and completions of messages."""

from collections.abc import Sequence
from typing import TypeGuard

from cao.tasks.base import SYSTEM, turn_text
from cao.tasks.files.json_files import json_value
from cao.tasks.files.keys import CHAT_KEYS, EARLIER, REPLY, TURNS, plain_key, turns_key
from cao.tasks.files.rows import BadRowError
from cao.types import Turns

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
_ROLES |= {"chatgpt": "assistant", "model": "assistant", "bot": "assistant", "system": SYSTEM, "developer": SYSTEM}
_MAY_BE_TEXT = (*CHAT_KEYS, "prompt", "completion")
"""Keys of chats that may lie there as JSON text."""


def unfolded(values: dict[str, object]) -> dict[str, object]:
    """Return a row in which each chat became texts: its last question, the reply to it, and the turns before.

    Args:
        values: a row; under a chat's key stands its last question, or the last reply where nobody asks.
            ``KEY: reply``, and ``KEY: earlier turns`` with ``KEY: turns``, are there where the chat has them.

    Raises:
        BadRowError: a turn is no text.
    """
    made: dict[str, object] = {}
    for key, value in values.items():
        chat = chat_of(key, value)
        if chat is None:
            made[key] = value
            continue
        turns = [_turn(key, turn) for turn in chat]
        asked = max((i for i, (role, _) in enumerate(turns) if role == "user"), default=-1)
        replies = [text for role, text in turns[asked + 1 :] if role == "assistant" and text.strip()]
        if asked < 0:
            made[key] = replies[-1] if replies else None
            continue
        made[key] = turns[asked][1]
        if replies:
            made[f"{key}{REPLY}"] = replies[0]
        before = [turn for turn in turns[:asked] if turn[1].strip()]
        if before:
            made[f"{key}{EARLIER}"] = "\n".join(turn_text(*turn) for turn in before)
            made[f"{key}{TURNS}"] = [list(turn) for turn in before]
    return made


def turns_of(values: dict[str, object], context: Sequence[str]) -> Turns:
    """Return the turns before a row's question, where they are all of its context.

    Args:
        values: a row whose chats are unfolded.
        context: the keys of its context.
    """
    found = values.get(turns_key(context[0])) if len(context) == 1 else None
    return tuple((str(role), str(text)) for role, text in found) if isinstance(found, list) else ()


def chat_of(key: str, value: object) -> list[dict[str, object]] | None:
    """Return the chat that stands under a key, as a list or as the JSON text of one; None where there is none."""
    if isinstance(value, str) and plain_key(key) in _MAY_BE_TEXT and value.lstrip().startswith("[{"):
        try:
            value = json_value(value)
        except BadRowError:
            return None
    return value if is_chat(value) else None


def has_user(chat: list[dict[str, object]]) -> bool:
    """Return whether somebody asks in a chat."""
    return any(_turn("chat", turn)[0] == "user" for turn in chat)


def is_chat(value: object) -> TypeGuard[list[dict[str, object]]]:
    """Return whether a value is a list of messages."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in value)
    )


def _turn(key: str, turn: dict[str, object]) -> tuple[str, str]:
    said = turn.get("role", turn.get("from"))
    role = _ROLES.get(said.casefold(), said[:20]) if isinstance(said, str) else "other"
    text = turn.get("content", turn.get("value"))
    if isinstance(text, list) and all(isinstance(part, dict) for part in text):
        text = "\n".join(str(part["text"]) for part in text if isinstance(part.get("text"), str))
    if text is None:
        text = ""
    if not isinstance(text, str):
        raise BadRowError(f"a turn of {key[:40]!r} is no text")
    return role, text


def asked_in(chat: list[dict[str, object]], context: str = "") -> tuple[str, str]:
    """Return what a user asks last in a chat, and its context: what is given as such, then the turns before.

    A system message is left out: a service sends the same before every question.

    Raises:
        BadRowError: a turn is no text.
    """
    made = unfolded({"chat": [turn for turn in chat if _turn("chat", turn)[0] != SYSTEM]})
    return str(made["chat"]), "\n\n".join(filter(None, (context, str(made.get(f"chat{EARLIER}", "")))))
