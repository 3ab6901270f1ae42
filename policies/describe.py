"""Who describes a task: the paragraph τ that a policy reads.

Source: CAO-LLM §2.4, G.2 (GPT-4o-mini writes one paragraph from a few question-answer pairs, no example quoted).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cao.errors import InputError
from cao.files import canonical_json, opened, sealed, sha256_bytes, write_json
from cao.machine.assets import cache_dir
from cao.policy_settings import PolicySettings
from cao.tasks.base import Task
from cao.types import Record
from policies.base import RequestForm
from policies.extract import after_reasoning, answer
from policies.messages import describer_messages
from policies.paragraph import MAX_CHARACTERS, clean_paragraph, facts

if TYPE_CHECKING:
    from cao.model.language_model import LanguageModel
    from policies.client.chat import ChatClient, ChatReply

MAX_PAIRS = 8
MAX_TOKENS = 128
LOCAL_TEMPERATURE = 0.5
FEWEST_PARAMETERS = 3e8
"""A model with fewer is not asked for a paragraph unless it is named: what the 135M model writes fits any task."""
FORM = 'Reply with one JSON object and nothing else: {"description": "the paragraph"}'
"""What the prompt says to a server besides the schema, which it may not know."""

OPENING = "These questions test"
"""What the local model goes on from: a small one left to itself answers the questions instead of describing them."""

Pairs = list[tuple[str, str | None]]


class Description(Record):
    """A task context.

    Attributes:
        text: τ, one paragraph.
        source: who wrote it; ``facts`` where no model's paragraph could be used.
        note: what a reader should know about it, may be empty.
        form: the form of request that its server took, None where none was asked.
    """

    text: str
    source: Literal["cached", "local", "openai", "facts"]
    note: str = ""
    form: RequestForm | None = None


@dataclass(frozen=True)
class _Request:
    task: Task
    pairs: Pairs
    settings: PolicySettings
    lm: "LanguageModel"
    seed: int
    offline: bool


def _cached(request: _Request) -> Description:
    if request.task.description:
        return Description(text=request.task.description, source="cached")
    none = "no paragraph of ours exists for this task"
    size = sum(parameter.numel() for parameter in request.lm.model.parameters())
    if size < FEWEST_PARAMETERS:
        note = f"{none}, and a model of {size / 1e6:.0f} M parameters describes none; --describer local asks it anyway"
        return Description(text=facts(request.pairs), source="facts", note=note)
    written = _local(request)
    return written.model_copy(update={"note": "; ".join(filter(None, [none, written.note]))})


def _local(request: _Request) -> Description:
    from policies.local import go_on, own_model  # noqa: PLC0415  (torch; names are checked without it)

    lm = own_model(request.settings, request.lm, request.offline)
    how = request.settings.model_copy(update={"temperature": LOCAL_TEMPERATURE, "max_tokens": MAX_TOKENS})
    written = go_on(lm, describer_messages(request.pairs), OPENING, how, request.seed)
    return _finished(f"{OPENING} {written}", "local", request.pairs)


def _openai(request: _Request) -> Description:
    settings = request.settings
    system, user = describer_messages(request.pairs)
    messages = [system, {**user, "content": f"{user['content']}\n{FORM}\n"}]
    key = canonical_json({"messages": messages, "model": settings.openai_model, "url": settings.base_url})
    path = cache_dir() / "descriptions" / f"{sha256_bytes(key.encode())}.json"
    try:
        stored = Description.model_validate_json(opened(path.read_bytes()))
        note = "; ".join(filter(None, ["from the cache", stored.note]))
        return stored.model_copy(update={"note": note, "form": None})
    except (OSError, ValueError):  # absent or damaged: ask again
        pass
    schema = {
        "type": "object",
        "properties": {"description": {"type": "string"}},
        "required": ["description"],
        "additionalProperties": False,
    }
    client = _client(settings, offline=request.offline)
    reply = client.ask(messages, schema, seed=request.seed, max_tokens=4 * MAX_TOKENS)
    description = _finished(_described(reply), "openai", request.pairs).model_copy(update={"form": client.form})
    if reply.outcome == "complete" and description.source == "openai":
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, sealed(description.model_dump(mode="json")))
    return description


def _client(settings: PolicySettings, *, offline: bool) -> "ChatClient":
    from policies.client.chat import ChatClient  # noqa: PLC0415  (half a second to import)

    return ChatClient(settings, offline=offline)


def _described(reply: "ChatReply") -> str:
    """Return the paragraph in a reply: in its object, or all of it where it is whole and prose without any brace."""
    try:
        value = json.loads(answer(reply.text))
    except (ValueError, RecursionError):
        prose = after_reasoning(reply.text)
        return prose if reply.outcome == "complete" and "{" not in prose else ""
    description = value.get("description") if isinstance(value, dict) else None
    return description if isinstance(description, str) else ""


def _finished(text: str, source: Literal["local", "openai"], pairs: Pairs) -> Description:
    # a small model's paragraph may be vague, so what can be counted stands behind it
    counted = f" {facts(pairs)}" if source == "local" else ""
    kept, dropped = clean_paragraph(text, pairs, MAX_CHARACTERS - len(counted))
    if not kept:
        return Description(text=facts(pairs), source="facts", note=f"the {source} model's text was of no use")
    note = f"{dropped} sentence(s) left out, which quoted an example" if dropped else ""
    return Description(text=kept + counted, source=source, note=note)


DESCRIBERS: dict[str, Callable[[_Request], Description]] = {
    "cached": _cached,
    "local": _local,
    "openai": _openai,
}


def check_describer(name: str, settings: PolicySettings, *, offline: bool) -> None:
    """Find out before a run begins whether its describer can be had; nothing is sent.

    Raises:
        InputError: the name is unknown.
        UnavailableError: the remote model cannot be had.
    """
    if name not in DESCRIBERS:
        raise InputError(f"unknown describer {name!r}; known: {', '.join(DESCRIBERS)}")
    if name == "openai":
        _client(settings, offline=offline)


def describe(
    name: str,
    task: Task,
    pairs: Pairs,
    *,
    settings: PolicySettings,
    lm: "LanguageModel",
    seed: int,
    offline: bool,
) -> Description:
    """Return the task context τ.

    Args:
        name: a key of ``DESCRIBERS``.
        task: what to describe.
        pairs: questions with their gold answers, None where the answer must not be read; eight are used at most.
        settings: how the remote model is reached, and the sampling.
        lm: the run's own model, for the local describer where the settings name no other.
        seed: equal seeds give equal paragraphs where the model is ours.
        offline: never leave this machine.

    Raises:
        InputError: the name is unknown.
        UnavailableError: the remote model cannot be had.
    """
    check_describer(name, settings, offline=offline)
    return DESCRIBERS[name](_Request(task, pairs[:MAX_PAIRS], settings, lm, seed, offline))
