"""Clients that ask a server, each its next question once its last one was answered."""

import asyncio
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx2

PATIENCE_S = 600.0
"""One request may take."""
TOKENS = (16, 32, 48)
"""Of an answer, by turns."""


@dataclass(frozen=True)
class Question:
    """A prompt with choices, which are used where one is ranked."""

    prompt: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Reply:
    """What came of one request.

    Attributes:
        seconds: it took.
        model: that answered, empty where nobody did.
        lost: why it counts as lost, empty where it was answered whole.
    """

    seconds: float
    model: str
    lost: str = ""


def body(number: int, asked: Question) -> tuple[str, dict[str, object]]:
    """Return path and body of a request: chats, plain completions, streams and ranked choices by turns."""
    common: dict[str, object] = {"model": "auto", "max_tokens": TOKENS[number % len(TOKENS)], "seed": number}
    kind = number % 4
    if kind == 1:
        return "/completions", {**common, "prompt": asked.prompt}
    chat = {**common, "messages": [{"role": "user", "content": asked.prompt}]}
    more: dict[str, object] = {"choices": list(asked.choices)} if kind == 3 else {"stream": kind == 2}
    return "/chat/completions", {**chat, **more}


def ask(url: str, questions: Sequence[Question], clients: int) -> list[Reply]:
    """Return what came of each question, in their order.

    Args:
        url: of the server.
        questions: each is asked once.
        clients: that ask side by side.
    """
    return asyncio.run(_ask(url, questions, clients))


def current(url: str) -> str:
    """Return which model is current there."""
    told = httpx2.get(url.removesuffix("/v1") + "/health", timeout=PATIENCE_S).json()
    return str(told["current"])


def watch_seconds(url: str) -> float:
    """Return the processor time of the detector there, seconds; 0 where nothing is watched."""
    told = httpx2.get(url.removesuffix("/v1") + "/metrics", timeout=PATIENCE_S).text
    name = "cao_watch_cpu_seconds_total "
    return next(float(line.split()[1]) for line in told.splitlines() if line.startswith(name))


async def _ask(url: str, questions: Sequence[Question], clients: int) -> list[Reply]:
    replies: dict[int, Reply] = {}
    ahead = itertools.count()
    limits = httpx2.Limits(max_connections=clients)
    async with httpx2.AsyncClient(timeout=PATIENCE_S, limits=limits, trust_env=False) as client:

        async def one() -> None:
            while (number := next(ahead)) < len(questions):
                began = time.monotonic()
                try:
                    model, lost = await _request(client, url, *body(number, questions[number]))
                except (httpx2.HTTPError, ValueError, KeyError, IndexError) as error:
                    model, lost = "", type(error).__name__
                replies[number] = Reply(time.monotonic() - began, model, lost)

        await asyncio.gather(*(one() for _ in range(clients)))
    return [replies[number] for number in range(len(questions))]


async def _request(client: httpx2.AsyncClient, url: str, path: str, sent: dict[str, object]) -> tuple[str, str]:
    """Return who answered, and why the answer is not whole, empty where it is."""
    reply = await client.post(url + path, json=sent)
    if reply.status_code != 200:
        return "", f"HTTP {reply.status_code}"
    if not sent.get("stream"):
        told = reply.json()
        return str(told["model"]), "" if told["choices"][0]["finish_reason"] else "no end"
    events = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    parts = [json.loads(event) for event in events[:-1]]
    whole = events[-1] == "[DONE]" and bool(parts[-1]["choices"][0]["finish_reason"])
    return str(parts[0]["model"]), "" if whole else "broke off"
