"""HTTP requests that somebody made worse: bodies in JSON, and the bytes around them."""

import json
import random
from dataclasses import dataclass
from typing import Literal

from tests.survival.mutations import PIECES, worse, worse_bytes

Json = object
Ending = Literal["whole", "half", "reset", "open"]
"""What the client does behind its bytes: wait for the end, close its half, break off, or stay without a word."""

HUGE = "a number of 5,000 digits"
"""Stands for one, which the standard library does not write."""
CHAT = {"model": "auto", "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "Tom"}]}
SOUND: list[tuple[str, dict[str, Json]]] = [
    ("/v1/completions", {"model": "base", "prompt": "Tom", "max_tokens": 2}),
    ("/v1/completions", {"model": "auto", "prompt": ["a", "b"], "max_tokens": 2, "n": 2, "temperature": 0.5}),
    ("/v1/completions", {"model": "base", "prompt": "a", "max_tokens": 3, "logprobs": 1, "seed": 7, "top_p": 0.5}),
    ("/v1/completions", {"model": "auto", "prompt": "a", "choices": ["a", "the bird"], "context": "a bird flies"}),
    ("/v1/chat/completions", {**CHAT, "max_tokens": 2, "stop": ["\n", "Tom"], "logprobs": True}),
    ("/v1/chat/completions", {**CHAT, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 3}),
    ("/v1/chat/completions", {**CHAT, "choices": ["a", "b", "c"], "response_format": {"type": "text"}}),
    (
        "/v1/chat/completions",
        {**CHAT, "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "max_tokens": 2},
    ),
    ("/v1/feedback", {"id": "cmpl-0", "correct": True}),
    ("/v1/feedback", {"id": "cmpl-0", "answer": "B"}),
]
ODD: list[Json] = [
    *(None, True, False, 0, -1, 1, 17, 2**31, 2**63, -(2**63), 10**30, 10**400, HUGE, 0.5, -0.0, 1e-320, 1e-40),
    *(1e308, float("nan"), float("inf"), float("-inf"), "", " ", "\n", "a", "\x00", "\ud800", "\udfff\ud800"),
    *("\ufeff", "\u202e", "\x1b[2J", "\u2028", "🙂", "A", "-1", "1e999", "a" * 300, "a b " * 4_000, "<|im_end|>"),
    *("<|endoftext|>" * 50, "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "base/../auto"),
    *("drift-1/../../x", "file:///etc/passwd", "auto\x00", "BASE", "runs/x", "${HOME}", "{{7*7}}", "%s%n"),
    *([], {}, [[]], [None], ["a"] * 27, ["a"] * 300, ["", ""], {"a": 1}, {"\ud800": 1}, {"\x1b[2J": "x"}),
    *({"type": "text"}, [{"role": "user", "content": "a"}] * 1_100),
]  # fmt: skip
NUMBERS: list[Json] = [one for one in ODD if isinstance(one, int | float)]
KEYS = ("model", "prompt", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "stop",
        "seed", "stream", "stream_options", "choices", "context", "logprobs", "echo", "suffix", "best_of", "tools",
        "logit_bias", "presence_penalty", "response_format", "id", "correct", "answer", "role", "content",
        "__class__", "")  # fmt: skip
TARGETS = ("/", "//", "/v1", "/v1/", "/v1/models/", "/v1/models/base", "/v1/completions/", "/v1/completions?x=%ff",
           "*", "/v1/../health", "/..%2f..%2fetc/passwd", "/%00", "/%ff", "http://127.0.0.1/health", "/health",
           "/metrics", "/v1/models", "/docs", "/openapi.json", "/v1/load_lora_adapter", "/v1/adapters/../../x",
           "/" + "a" * 9_000, "/\xe9", "", "x", "/health#x", "/v1/models?" + "a=1&" * 2_000)  # fmt: skip
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW", "get", "", "P\x00ST")
CODINGS = [b"chunked", b"gzip, chunked", b"identity", b"chunked, chunked", b"\x0bchunked", b"xchunked"]
LENGTHS = [b"0", b"-1", b"1e9", b"99999999999999999999", b"5, 5", b"+5", b"\xb2", b"5 5", b"", b"0x5"]
HOSTS = [b"[::", b"evil.example/x?y", b"\xff\xfe", b"a\r\nHost: b", b"", b"a:b", b"x" * 9_000]
HEADERS: list[bytes] = [
    *(b"Transfer-Encoding: " + one for one in CODINGS),
    *(b"Content-Length: " + one for one in LENGTHS),
    *(b"Host: " + one for one in HOSTS),
    *(b"Expect: 100-continue", b"Expect: x", b"Cookie: " + b"a" * 70_000, b"A" * 20_000 + b": x", b"Origin: null"),
    *(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x", b"Upgrade: h2c\r\nConnection: Upgrade"),
    *(b"X: \x00", b": x", b" folded: x", b"X:y\n z", b"X: \xc3\x28", b"TE: trailers", b"Range: bytes=0-"),
    *(b"Authorization: Bearer", b"Authorization: Basic \xff", b"X-Forwarded-For: ../../x", b"Content-Encoding: gzip"),
    *(b"Content-Type: application/json; charset=utf-16", b"Content-Type: multipart/form-data; boundary=x"),
    b"\r\n".join(b"X-%d: y" % i for i in range(2_000)),
]
SIZES = (b"-1", b"0x5", b"F" * 20, b"", b"5;" + b"a" * 9_000, b"5;x=\x00", b" 5", b"zz", b"1" * 30, b"0")
NO_HTTP = (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n" * 3_000,
           b"\x00" * 9_000, b"GET /health\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST", b"", b"SSH-2.0-x\r\n",
           b"a" * 70_000, b"{}\n", b"\xff" * 30)  # fmt: skip


@dataclass(frozen=True)
class Hostile:
    """What is sent to a port.

    Attributes:
        parts: of its bytes, sent one by one.
        ending: what the client does then.
        one: whether it is one whole request of HTTP, so that one answer must come.
    """

    parts: tuple[bytes, ...]
    ending: Ending
    one: bool


def hostile(draw: random.Random, key: str, answered: list[str]) -> Hostile:
    """Return a request, or what somebody takes for one.

    Args:
        draw: of everything.
        key: that the server asks for.
        answered: ids of answers that feedback can speak of.
    """
    if draw.random() < 0.6:
        path, body = _body(draw, answered)
        return Hostile((_request("POST", path, body, key, b"Connection: close"),), "whole", one=True)
    sent = b"".join(_bytes(draw, key, answered) for _ in range(draw.choice((1, 1, 2, 5))))
    if draw.random() < 0.5:
        sent = worse_bytes(sent, draw)
    cuts = sorted(draw.randint(0, len(sent)) for _ in range(draw.choice((0, 0, 1, 4))))
    parts = tuple(sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True))
    return Hostile(parts, draw.choice(("half", "half", "half", "reset", "open")), one=False)


def _body(draw: random.Random, answered: list[str]) -> tuple[str, bytes]:
    """Return a path, and a body for it: a sound one, changed as a tree or as a text."""
    path, sound = draw.choice(SOUND)
    tree: Json = json.loads(json.dumps(sound))
    if isinstance(tree, dict) and "id" in tree and answered:
        tree["id"] = draw.choice(answered)
    for _ in range(draw.choice((0, 1, 1, 1, 2))):
        tree = _changed(tree, draw)
    text = json.dumps(tree, ensure_ascii=draw.random() < 0.5)
    text = text.replace(f'"{HUGE}"', "9" * 5_000)
    if draw.random() < 0.3:
        text = worse(text, draw)
    raw = text.encode("utf-8", draw.choice(("surrogatepass", "replace")))
    return path, worse_bytes(raw, draw) if draw.random() < 0.1 else raw


def _changed(tree: Json, draw: random.Random) -> Json:
    """Return a tree with one change at a random place."""
    if isinstance(tree, dict) and tree and draw.random() < 0.9:
        name = draw.choice(sorted(tree))
        way = draw.randrange(4)
        if way == 0:
            return {**tree, draw.choice(KEYS): draw.choice(ODD)}
        if way == 1:
            return {key: value for key, value in tree.items() if key != name}
        return {**tree, name: _changed(tree[name], draw)}
    if isinstance(tree, list) and tree and draw.random() < 0.7:
        place = draw.randrange(len(tree))
        changed = _changed(tree[place], draw)
        return [*tree[:place], *[changed] * draw.choice((0, 1, 1, 2, 40)), *tree[place + 1 :]]
    if draw.random() < 0.1:
        for _ in range(draw.choice((1, 30, 400))):  # no deeper than the standard library writes
            tree = [tree] if draw.random() < 0.5 else {"a": tree}
        return tree
    numeric = isinstance(tree, int | float) and draw.random() < 0.7
    return draw.choice(NUMBERS if numeric else [*ODD, *PIECES])


def _request(method: str, target: str, body: bytes, key: str, *more: bytes, length: bool = True) -> bytes:
    heads = [f"{method} {target} HTTP/1.1".encode("latin-1"), b"Host: x", b"Authorization: Bearer " + key.encode()]
    heads += [b"Content-Type: application/json", *([b"Content-Length: %d" % len(body)] if length else []), *more]
    return b"\r\n".join(heads) + b"\r\n\r\n" + body


def _bytes(draw: random.Random, key: str, answered: list[str]) -> bytes:
    """Return the bytes of one request, of which something may be odd."""
    path, body = _body(draw, answered)
    way = draw.randrange(7)
    if way == 0:
        return draw.choice(NO_HTTP)
    if way == 1:
        return _request(draw.choice(METHODS), path, body, key)
    if way == 2:
        return _request(draw.choice(("GET", "POST")), draw.choice(TARGETS), draw.choice((b"", body)), key)
    if way == 3:
        return _request(
            "POST", path, body, key, *draw.sample(HEADERS, draw.choice((1, 1, 3))), length=draw.random() < 0.7
        )
    if way == 4:
        return _request("POST", path, _chunks(body, draw), key, b"Transfer-Encoding: chunked", length=False)
    if way == 5:  # a body shorter or longer than its length says
        stated = b"Content-Length: %d" % max(0, len(body) + draw.choice((-1, 1, 7, 10_000)))
        return _request("POST", path, body, key, stated, length=False)
    return _request("POST", path, body, key)


def _chunks(body: bytes, draw: random.Random) -> bytes:
    """Return a body in chunks, of which one may have a size that is none, or no end."""
    step = draw.choice((1, 7, 1000)) if len(body) < 2_000 else 5_000
    parts = [body[at : at + step] for at in range(0, len(body), step)]
    lines = [b"%x\r\n%s\r\n" % (len(part), part) for part in parts] + [b"0\r\n\r\n"]
    if draw.random() < 0.5:
        place = draw.randrange(len(lines))
        odd = draw.choice(
            (draw.choice(SIZES) + b"\r\nhello\r\n", b"", b"\r\n", lines[place][:-2], b"0\r\nX: y\r\n\r\n")
        )
        lines[place] = odd
    return b"".join(lines)
