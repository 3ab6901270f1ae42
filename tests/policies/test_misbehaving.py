"""The client against a server that misbehaves in every way known, over and over: a text or a typed error, no key."""

import json
import random
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity.nap

from cao.errors import UnavailableError
from tests.policies.contexts import CONTEXT
from tests.policies.openai_policies import policy
from tests.policies.serving import serving

KEY = "sk-secret-q7Rz1VbX9tLw"
GOOD = '{"family": "Latent", "slot_steps": 5, "slot_lr": 0.1}'
ROUNDS = 8


def raw(status: str, *headers: str, body: str = "{}", length: int | None = None) -> bytes:
    """A whole reply, whose stated length may be another than the body's."""
    stated = f"Content-Length: {len(body) if length is None else length}"
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, stated, "", body]).encode()


def ways(http: Any, elsewhere: str) -> dict[str, Any]:
    """Name → one bad answer; every one that can echoes the key."""
    answer, completion = http.answer, http.completion
    call = [{"id": "1", "type": "function", "function": {"name": "choose", "arguments": f'{{"key": "{KEY}"}}'}}]
    error = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": 500}}).encode()
    soon = ("Retry-After: 0", "Retry-After: 3600", "Retry-After: Fri, 31 Dec 2100 23:59:59 GMT", "Retry-After: soon")
    return {
        **{f"429 {after}": answer(opening=raw("429 Too Many Requests", after)) for after in soon},
        **{f"{status}": answer(error, status) for status in (400, 401, 402, 404, 408, 409, 422, 500, 501, 503, 529)},
        **{f"{status} elsewhere": answer(b"", status, location=elsewhere) for status in (301, 302, 303, 307, 308)},
        "304": answer(opening=raw("304 Not Modified", body="")),
        "204": answer(opening=raw("204 No Content", body="")),
        "page": answer(f"<html>{KEY}</html>".encode(), content_type="text/html"),
        "error page": answer(f"<html>{KEY}</html>".encode(), 502, content_type="text/html"),
        "hung up": answer(hang_up=True),
        "half": answer(opening=raw("200 OK", body='{"choices": [', length=99_999)),
        "half a chunk": answer(opening=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"),
        "no HTTP": answer(opening=b"SSH-2.0-OpenSSH_9.9\r\n"),
        "no gzip": answer(opening=raw("200 OK", "Content-Encoding: gzip")),
        "bad length": answer(opening=raw("200 OK", "Content-Length: -7")),
        "long header": answer(opening=raw("200 OK", f"X-Long: {'x' * 200_000}")),
        "huge": answer(b"[" * 5_000_000),
        "200 with an error": answer(error),
        "events": answer(b'data: {"choices": []}\n\ndata: [DONE]\n\n', content_type="text/event-stream"),
        "null content": answer(completion(None)),
        "reasoning alone": answer(completion(None, reasoning_content=f"The key is {KEY}")),
        "a call": answer(completion(None, finish="tool_calls", tool_calls=call)),
        "fenced": answer(completion(f"```json\n{GOOD}\n```")),
        "a key in prose": answer(completion(f"Use {KEY}.")),
        "late, but in time": answer(completion(GOOD), delay=0.05),
    }


@pytest.mark.slow
def test_hundreds_of_bad_answers_end_in_a_text_or_a_typed_error(
    server: Any, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=lambda _: None))
    strangers: list[str] = []

    class Stranger(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            strangers.append(str(self.client_address))
            self.close_connection = True

    ended = {"text": 0, "error": 0}
    with serving(Stranger) as elsewhere:
        bad, draw = ways(http, elsewhere), random.Random(0)
        for _ in range(ROUNDS):
            for name in draw.sample(sorted(bad), len(bad)):
                alone = draw.random() < 0.5
                server.requests.clear()
                server.refused = 0
                server.will(bad[name], *([] if alone else [http.answer(http.completion(GOOD))]))
                asked = policy(server, max_requests=5)
                try:
                    [told] = asked.propose(CONTEXT, 1, seed=0)
                    ended["text"] += 1
                except UnavailableError as error:
                    told = str(error)
                    ended["error"] += 1
                assert KEY not in told, name
                assert asked.client.spent_requests == len(server.requests) <= 5, name
    assert sum(ended.values()) == ROUNDS * len(bad) > 250
    assert min(ended.values()) > 50
    assert strangers == []
    assert set(server.keys) == {KEY}
