"""A real HTTP server that misbehaves on demand."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

import pytest

from tests.policies.serving import serving


def completion(
    content: Any, *, finish: str = "stop", refusal: str | None = None, usage: Any = None, **message: Any
) -> bytes:
    """One chat completion as the API sends it; further keys stand in its message."""
    message = {"role": "assistant", "content": content, "refusal": refusal, **message}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": usage or {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
    }
    return json.dumps(body).encode()


@dataclass
class Answer:
    """What the server sends: after ``delay`` seconds, in drops of one byte where ``drip`` says so.

    ``opening`` goes out as it stands, before all else, and ``again`` behind it ``TIMES`` times: long past the patience
    of a client, and then the rest of the answer comes after all. ``sent`` counts them.
    """

    TIMES: ClassVar[int] = 300

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    delay: float = 0.0
    drip: float = 0.0
    hang_up: bool = False
    location: str = ""
    opening: bytes = b""
    again: bytes = b""
    sent: int = 0

    def send_again(self, send: Callable[[bytes], Any]) -> None:
        send(self.opening)
        for _ in range(self.TIMES if self.again else 0):
            send(self.again)
            self.sent += 1
            time.sleep(0.01)


@dataclass
class FakeServer:
    """Answers come in order; the last one repeats. Requests are kept; those in a form it refuses get no answer."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    refuses: dict[str, int] = field(default_factory=dict)  # form of request → status
    refused: int = 0

    def forms(self) -> list[str]:
        return [request.get("response_format", {"type": "text"})["type"] for request in self.requests]

    def next(self) -> Answer:
        status = self.refuses.get(self.forms()[-1])
        if status is not None:
            self.refused += 1
            return Answer(b'{"error": {"message": "the grammar cannot be compiled"}}', status)
        return self.answers[min(len(self.requests) - self.refused, len(self.answers)) - 1]

    def will(self, *answers: Answer) -> None:
        self.answers[:] = answers


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    fake = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            fake.requests.append(json.loads(data))
            fake.keys.append(self.headers["Authorization"].removeprefix("Bearer "))
            answer = fake.next()
            time.sleep(answer.delay)
            if answer.hang_up:
                self.connection.close()
                return
            try:
                answer.send_again(self.wfile.write)
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(answer.body)))
                if answer.location:
                    self.send_header("Location", answer.location)
                self.end_headers()
                if not answer.drip:
                    self.wfile.write(answer.body)
                for i in range(len(answer.body) if answer.drip else 0):
                    self.wfile.write(answer.body[i : i + 1])
                    time.sleep(answer.drip)
            except OSError:  # the client lost patience, as it should
                pass

        def log_message(self, *args: object) -> None:
            pass

    with serving(Handler) as fake.url:
        yield fake


@pytest.fixture
def http() -> Any:
    """The two builders of answers, for tests that cannot import from here."""

    class Http:
        answer = Answer
        completion = staticmethod(completion)

    return Http
