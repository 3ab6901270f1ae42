"""Continuing texts by a server: batches, no more at a time than allowed, and every way in which it may fail."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cao.errors import UnavailableError
from policies.client.completions import CompletionClient, ServerSettings
from tests.policies.serving import serving

PROMPTS = [f"question {i}" for i in range(10)]


@dataclass
class Completions:
    """A server that continues a prompt with `` says PROMPT``, and counts how many requests are there at a time."""

    url: str = ""
    delay: float = 0.0
    failures: list[int] = field(default_factory=list)  # statuses of the first requests
    body: bytes | None = None
    text: str = " says {}\nQuestion: more"
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    now: int = 0
    most: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def answer(self, request: dict[str, Any], key: str) -> tuple[int, bytes]:
        with self.lock:
            self.requests.append(request)
            self.keys.append(key)
            self.now += 1
            self.most = max(self.most, self.now)
            status = self.failures.pop(0) if self.failures else 200
        time.sleep(self.delay)
        with self.lock:
            self.now -= 1
        if status != 200:
            return status, json.dumps({"error": {"message": f"no, {key}"}}).encode()
        written = [{"index": i, "text": self.text.format(p)} for i, p in enumerate(request["prompt"])]
        return 200, json.dumps({"choices": written[::-1]}).encode() if self.body is None else self.body


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Completions]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    fake = Completions()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = fake.answer(request, self.headers["Authorization"].removeprefix("Bearer "))
            try:
                self.send_response(status if self.path == "/v1/completions" else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # the client lost patience
                pass

        def log_message(self, *args: object) -> None:
            pass

    with serving(Handler) as fake.url:
        yield fake


def client(server: Completions, **settings: Any) -> CompletionClient:
    given = {"batch": 2, "concurrency": 2, "timeout_s": 20, **settings}
    return CompletionClient(ServerSettings(url=server.url, model="tiny", **given), offline=True)


def write(server: Completions, prompts: list[str] = PROMPTS, **settings: Any) -> list[str]:
    return client(server, **settings).write(prompts, max_new_tokens=7, stop=["\nQuestion:", "\n\n"])


def test_prompts_go_in_batches_and_answers_come_back_in_order_and_cut(writer: Completions) -> None:
    assert write(writer, PROMPTS[:5]) == [f" says {prompt}" for prompt in PROMPTS[:5]]
    assert sorted(len(request["prompt"]) for request in writer.requests) == [1, 2, 2]
    first = next(request for request in writer.requests if request["prompt"][0] == "question 0")
    assert first["prompt"] == PROMPTS[:2]
    assert (first["model"], first["max_tokens"], first["temperature"]) == ("tiny", 7, 0.0)
    assert first["stop"] == ["\nQuestion:", "\n\n"]
    assert set(writer.keys) == {"no-key-needed"}
    assert write(writer, []) == []


@pytest.mark.parametrize("allowed", [1, 3])
def test_no_more_requests_are_under_way_than_allowed(writer: Completions, allowed: int) -> None:
    writer.delay = 0.1
    assert write(writer, batch=1, concurrency=allowed) == [f" says {prompt}" for prompt in PROMPTS]
    assert writer.most == allowed
    assert len(writer.requests) == 10


def test_a_slow_server_slows_the_asking(writer: Completions) -> None:
    """With the first answers outstanding nothing further is made, not even in a queue of ours."""
    writer.delay, asked = 0.3, client(writer, batch=1)
    told: list[tuple[int, int]] = []
    asked.write(
        PROMPTS[:6], max_new_tokens=1, progress=lambda _, done, total: told.append((done, len(writer.requests)))
    )
    assert [done for done, _ in told][-1] == 6
    assert all(requests <= done + 2 for done, requests in told)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_passing_trouble_is_tried_again(writer: Completions, status: int) -> None:
    writer.failures = [status, status]
    assert write(writer) == [f" says {prompt}" for prompt in PROMPTS]
    assert len(writer.requests) == 7


def test_lasting_trouble_ends_after_four_tries(writer: Completions) -> None:
    writer.failures = [429] * 100
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:\d+ answered HTTP 429 for model 'tiny'"):
        write(writer, PROMPTS[:2])
    assert len(writer.requests) == 4


def test_a_failure_ends_the_asking(writer: Completions) -> None:
    writer.failures, writer.delay = [400] * 100, 0.05
    with pytest.raises(UnavailableError, match="HTTP 400"):
        write(writer, batch=1)
    assert len(writer.requests) <= 2


def test_a_reply_that_takes_too_long_is_unavailable(writer: Completions) -> None:
    writer.delay = 1.0
    with pytest.raises(UnavailableError, match=r"did not answer within 0\.1 s"):
        write(writer, PROMPTS[:1], timeout_s=0.1)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Welcome to the hotel's network</html>",
        b"",
        b"[" * 99_999,
        b"\xff\xfe",
        b'{"choices": []}',
        b'{"choices": [{"index": 0, "text": "a"}]}',
        b'{"choices": [{"index": 0, "text": "a"}, {"index": 0, "text": "b"}]}',
        b'{"choices": [{"index": 0, "text": "a"}, {"index": 1, "text": null}]}',
        b'{"choices": [{"index": 0, "text": "a"}, {"index": 1, "text": "b"}, {"index": 2, "text": "c"}]}',
    ],
)
def test_what_is_no_completion_of_every_prompt_is_an_error_and_no_answer(writer: Completions, body: bytes) -> None:
    writer.body = body
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:\d+ sent no completion for each of 2 prompts"):
        write(writer, PROMPTS[:2])


def test_nobody_listening_is_unavailable_and_named() -> None:
    lonely = CompletionClient(ServerSettings(url="http://127.0.0.1:9/v1", model="m", timeout_s=1), offline=True)
    with pytest.raises(UnavailableError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        lonely.write(PROMPTS, max_new_tokens=1)


def test_the_key_is_sent_and_never_shown(writer: Completions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123")
    writer.text = "your key is sk-secret-0123{}, it ends in secret-0123"
    asked = client(writer)
    assert asked.write(["a"], max_new_tokens=1) == ["your key is [key]a, it ends in [key]"]
    writer.failures = [401]
    with pytest.raises(UnavailableError, match="refused the key") as caught:
        asked.write(["a"], max_new_tokens=1)
    assert "secret" not in str(caught.value) + repr(asked)
    assert set(writer.keys) == {"sk-secret-0123"}


def test_offline_allows_loopback_only_and_an_address_holds_no_password() -> None:
    with pytest.raises(UnavailableError, match="not on this machine"):
        CompletionClient(ServerSettings(url="https://example.org/v1", model="m"), offline=True)
    with pytest.raises(ValidationError, match="pattern"):
        ServerSettings(url="http://user:password@127.0.0.1/v1", model="m")


# the command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    rows = [{"question": f"What is {i} and {i}?", "answer": str(2 * i)} for i in range(1, 6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def score(questions: Path, url: str, *more: str) -> int:
    from eval.score import main

    given = ["--task", str(questions), "--server", url, "--server-model", "tiny", "--offline", "--json", *more]
    return main(given)


def test_the_command_grades_what_the_server_writes(
    writer: Completions, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer.text = " 4"
    assert score(questions, writer.url, "--server-batch", "2", "--server-concurrency", "1") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["n"], record["accuracy"], record["protocol"], record["model"]) == (5, 0.2, "generate", "tiny")
    assert [item["correct"] for item in record["items"]] == [False, True, False, False, False]
    assert record["gold_nll_per_char"] is record["loss"] is record["margin"] is None
    assert sorted(len(request["prompt"]) for request in writer.requests) == [1, 2, 2]
    assert writer.most == 1


@pytest.mark.parametrize(
    ("url", "more", "status", "words"),
    [
        ("http://127.0.0.1:9/v1", [], 3, "http://127.0.0.1:9 cannot be reached"),
        ("ftp://x", [], 2, "write it like http://127.0.0.1:8000/v1"),
        ("http://", [], 2, "write it like http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:9/v1", ["--protocol", "likelihood"], 2, "use --protocol generate"),
        ("http://127.0.0.1:9/v1", ["--adapter", "here"], 2, "cannot be put on a model that http://127.0.0.1:9/v1"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    url: str, more: list[str], status: int, words: str, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(questions, url, *more) == status
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert words in captured.err
