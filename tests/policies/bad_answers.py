"""Every known way in which a server misbehaves, by name."""

import gzip
import json
import zlib
from typing import Any

KEY = "sk-secret-q7Rz1VbX9tLw"
GOOD = '{"family": "Latent", "slot_steps": 5, "slot_lr": 0.1}'
SLOW = ("drops", "interim without end", "silence")
"""Ways that only the deadline ends."""


def raw(status: str, *headers: str, body: str = "{}", length: int | None = None, http: str = "HTTP/1.1") -> bytes:
    """A whole reply, whose stated length may be another than the body's."""
    stated = f"Content-Length: {len(body) if length is None else length}"
    return "\r\n".join([f"{http} {status}", *headers, stated, "", body]).encode()


def packed(data: bytes, coding: str) -> bytes:
    """A reply whose body is compressed."""
    body = gzip.compress(data) if coding == "gzip" else zlib.compress(data)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def ways(http: Any, elsewhere: str) -> dict[str, Any]:
    """Name → one bad answer; every one that can echoes the key."""
    return {**_statuses(http, elsewhere), **_broken(http), **_bodies(http), **_messages(http)}


def _statuses(http: Any, elsewhere: str) -> dict[str, Any]:
    answer = http.answer
    error = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": 500}}).encode()
    soon = ("Retry-After: 0", "Retry-After: 3600", "Retry-After: Fri, 31 Dec 2100 23:59:59 GMT", "Retry-After: soon")
    statuses = (400, 401, 402, 403, 404, 407, 408, 409, 413, 418, 421, 422, 451, 500, 501, 502, 503, 504, 511, 529, 599)
    return {
        **{f"429 {after}": answer(opening=raw("429 Too Many Requests", after)) for after in soon},
        **{f"503 {after}": answer(opening=raw("503 Service Unavailable", after)) for after in soon[1:3]},
        **{f"{status}": answer(error, status) for status in statuses},
        **{f"{status} elsewhere": answer(b"", status, location=elsewhere) for status in (301, 302, 303, 307, 308)},
        "redirect to a file": answer(b"", 302, location="file:///etc/passwd"),
        "redirect nowhere": answer(opening=raw("302 Found")),
        "304": answer(opening=raw("304 Not Modified", body="")),
        "204": answer(opening=raw("204 No Content", body="")),
        "226": answer(error, 226),
        "status 999": answer(opening=raw("999 What")),
        "status of words": answer(opening=raw("fine OK")),
    }


def _broken(http: Any) -> dict[str, Any]:
    answer = http.answer
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return {
        "hung up": answer(hang_up=True),
        "half": answer(opening=raw("200 OK", body='{"choices": [', length=99_999)),
        "half a chunk": answer(opening=chunked + b"ff\r\n{"),
        "a chunk of no size": answer(opening=chunked + b"zz\r\n{}\r\n0\r\n\r\n"),
        "a chunk of minus": answer(opening=chunked + b"-1\r\n{}\r\n"),
        "no HTTP": answer(opening=b"SSH-2.0-OpenSSH_9.9\r\n"),
        "TLS": answer(opening=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)),
        "another HTTP": answer(opening=raw("200 OK", http="HTTP/9.9")),
        "an old HTTP": answer(opening=b"HTTP/1.0 200 OK\r\n\r\n{"),
        "no gzip": answer(opening=raw("200 OK", "Content-Encoding: gzip")),
        "no brotli": answer(opening=raw("200 OK", "Content-Encoding: br")),
        "half of gzip": answer(opening=packed(http.completion(GOOD), "gzip")[:-20]),
        "a bomb of gzip": answer(opening=packed(b"[" * 50_000_000, "gzip")),
        "a bomb of deflate": answer(opening=packed(b" " * 50_000_000, "deflate")),
        "bad length": answer(opening=raw("200 OK", "Content-Length: -7")),
        "two lengths": answer(opening=raw("200 OK", "Content-Length: 7")),
        "long header": answer(opening=raw("200 OK", f"X-Long: {'x' * 200_000}")),
        "many headers": answer(opening=raw("200 OK", *[f"X-{n}: {n}" for n in range(2_000)])),
        "a header of NUL": answer(opening=raw("200 OK", "X-Odd: \x00")),
        "drops": answer(http.completion(GOOD), drip=0.05),
        "interim without end": answer(opening=b"", again=b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        "silence": answer(http.completion(GOOD), delay=0.6),
        "late, but in time": answer(http.completion(GOOD), delay=0.05),
    }


def _bodies(http: Any) -> dict[str, Any]:
    answer = http.answer
    error = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": 500}}).encode()
    return {
        "page": answer(f"<html>{KEY}</html>".encode(), content_type="text/html"),
        "error page": answer(f"<html>{KEY}</html>".encode(), 502, content_type="text/html"),
        "huge": answer(b"[" * 5_000_000),
        "huge text": answer(http.completion("a" * 5_000_000)),
        "deep": answer(b'{"choices": ' + b"[" * 50_000),
        "no text": answer(b"\xff\xfe\x00\x00" * 50),
        "a mark in front": answer(b"\xef\xbb\xbf" + http.completion(GOOD)),
        "nothing": answer(b""),
        "null": answer(b"null"),
        "NaN": answer(b'{"choices": NaN}'),
        "key twice": answer(b'{"choices": [], "choices": [{}]}'),
        "200 with an error": answer(error),
        "200 with a text": answer(f'"{KEY}"'.encode()),
        "events": answer(b'data: {"choices": []}\n\ndata: [DONE]\n\n', content_type="text/event-stream"),
        "as a page": answer(http.completion(GOOD), content_type="text/html; charset=latin-1"),
        "odd usage": answer(http.completion(GOOD, usage={"prompt_tokens": -5, "completion_tokens": 1e400})),
    }


def _messages(http: Any) -> dict[str, Any]:
    answer, completion = http.answer, http.completion
    given = {"name": "choose", "arguments": f'{{"key": "{KEY}"}}'}
    call = [{"id": "1", "type": "function", "function": given}]
    return {
        **{f"{key} null": answer(json.dumps({"choices": [{key: None}]}).encode()) for key in ("message", "content")},
        **{f"content {n}": answer(completion(odd)) for n, odd in enumerate((7, True, {}, [], [[]], [None], ["a"]))},
        "no choices": answer(b'{"choices": []}'),
        "two choices": answer(json.dumps({"choices": [json.loads(completion(None))["choices"][0]] * 2}).encode()),
        "null content": answer(completion(None)),
        "empty content": answer(completion("")),
        "parts": answer(completion([{"type": "text", "text": GOOD}, {"type": "image_url"}])),
        "reasoning alone": answer(completion(None, reasoning_content=f"The key is {KEY}")),
        "reasoning in front": answer(completion(f"<think>{KEY}</think>{GOOD}", reasoning=KEY)),
        "a call": answer(completion(None, finish="tool_calls", tool_calls=call)),
        "an old call": answer(completion(None, finish="function_call", function_call=given)),
        "calls of nothing": answer(completion(None, finish="tool_calls", tool_calls=[None, 7, {"function": None}])),
        "refused": answer(completion(None, refusal=f"I will not tell {KEY}.")),
        "filtered": answer(completion("", finish="content_filter")),
        "cut off": answer(completion('{"strategy": {"family": "TTL', finish="length")),
        "fenced": answer(completion(f"```json\n{GOOD}\n```")),
        "two objects": answer(completion(f"{GOOD}{GOOD}")),
        "half a pair": answer(completion("\ud800 " + GOOD)),
        "a key in prose": answer(completion(f"Use {KEY}.")),
        "a key in pieces": answer(completion(f"Use {KEY[:9]} and {KEY[9:]}.")),
    }
