"""What is no request, too large, too slow or without the key is a typed error, and nobody's secret is told."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from agent.server.building import site_app
from agent.server.metrics import Metrics
from agent.server.roster import Roster
from agent.server.roster import Served as Listed
from agent.server.settings import ServeOptions
from cao.encodings import visible
from tests.agent.server.running_site import KEY, Served, another_server, in_front_of, serving

LINE = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"
JSON = b"Content-Type: application/json\r\n"
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n4e20\r\n" + b"x" * 20_000 + b"\r\n1\r\ny\r\n0\r\n\r\n"


class Nobody:
    """Answers no request."""

    async def completion(self, http: Request) -> Response:
        raise AssertionError(http)

    async def chat(self, http: Request) -> Response:
        raise AssertionError(http)


def status_of(raw: bytes) -> int:
    return int(raw.split(b" ", 2)[1])


def error_of(raw: bytes) -> dict[str, object]:
    told = json.loads(raw.partition(b"\r\n\r\n")[2])["error"]
    assert set(told) == {"message", "type", "param", "code"}
    assert "Traceback" not in told["message"]
    return dict(told)


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/v1/completions", "/nowhere"])
def test_without_the_key_nothing_is_answered_but_health(it: Served, path: str) -> None:
    for given_key in ("", "wrong", KEY[:-1], KEY + "x", "é"):
        raw = it.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {given_key}\r\n\r\n".encode())
        assert (status_of(raw), error_of(raw)["code"]) == (401, "invalid_api_key")
        assert KEY.encode() not in raw
    assert status_of(it.raw(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", more=True)) == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (LINE + JSON + b"Content-Length: 20001\r\n\r\n", 413),
        (LINE + JSON + b"Content-Length: 999999999999999999\r\n\r\n", 413),
        (LINE + JSON + b"Content-Length: 999999999999999999999999\r\n\r\n", 400),
        (LINE + JSON + CHUNKS, 413),
        (LINE + b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415),
        (LINE + b"Content-Length: 2\r\n\r\n{}", 415),
        (LINE + JSON + b"Content-Length: 2\r\n\r\n{}", 400),
        (LINE + JSON + b"Content-Length: -2\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (LINE.replace(b"POST", b"DELETE") + b"\r\n", 405),
        (LINE.replace(b"/v1/completions", b"/v1/%2e%2e/%00?x=%ff") + JSON + b"Content-Length: 2\r\n\r\n{}", 404),
    ],
)  # fmt: skip
def test_nonsense_is_a_typed_error(it: Served, sent: bytes, status: int) -> None:
    raw = it.raw(sent)
    assert (status_of(raw), bool(error_of(raw)["message"])) == (status, True)
    assert it.client.models.list().data


def test_a_body_that_does_not_come_is_waited_for_no_longer_than_stated(it: Served) -> None:
    raw = it.raw(LINE + JSON + b"Content-Length: 10\r\n\r\n{", more=True)
    assert (status_of(raw), error_of(raw)["code"]) == (408, "timeout")


@pytest.mark.parametrize(
    "body",
    [b"[" * 9000, b'{"a":' * 3000, b'{"model": "base", "prompt": "\\ud800"}', b"\xff\xfe", b"null", b"1e999", b"{}",
     b'{"model": "base", "prompt": "a", "temperature": NaN}', b'{"model": "base", "prompt": "a", "max_tokens": 1e400}',
     b'{"model": "\\u001b[31m\\u202e", "prompt": "a"}', b'{"model": null, "prompt": {"a": 1}}', b'{"model": "base"}',
     b'{"model": "base", "prompt": "a", "messages": [], "logit_bias": {"\\u001b[2J\\u202e": "x"}}'],
)  # fmt: skip
def test_a_body_that_says_nothing_is_a_typed_error(it: Served, body: bytes) -> None:
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/feedback"):
        status, told, _ = it.send(path, body)
        assert 400 <= status < 500
        assert not [text for text in told["error"].values() if text and text != visible(text)]


def test_a_head_that_does_not_come_is_waited_for_no_longer_than_stated(it: Served) -> None:
    """Nor a body that nobody reads, behind a refusal; and bytes that trickle win no time."""
    closed = b"Content-Length: 9000\r\n\r\n"
    for sent in (
        b"",
        LINE,
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + LINE,
        b"POST / HTTP/1.1\r\nHost: x\r\n" + closed,
    ):
        with socket.create_connection(("127.0.0.1", it.port), timeout=30) as one:
            one.settimeout(0.1)
            with contextlib.suppress(ConnectionError):
                one.sendall(sent)
                for _ in range(600):
                    one.sendall(b"x" if sent else b"")
                    try:
                        if not one.recv(65_536):
                            break
                    except TimeoutError:
                        continue
                else:
                    pytest.fail(f"waited for {sent!r}")


def test_a_request_whose_body_breaks_while_it_is_waited_for_is_no_defect(
    it: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = it.raw(LINE + JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nnone\r\n")
    assert (status_of(raw), error_of(raw)["code"]) == (400, "invalid_http")
    assert it.client.models.list().data
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("path", ["/v1/models/", "/health/"])
def test_a_path_beside_a_route_is_none(it: Served, path: str) -> None:
    assert it.send(path)[0] == 404


@pytest.fixture(scope="module")
def open_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server without a key; another one stands behind it, so that no model is loaded."""
    folder = tmp_path_factory.mktemp("open")
    with another_server(folder) as other, serving(in_front_of(other, folder)) as site:
        yield site


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1:x", "::1", ""]
)
def test_without_a_key_another_name_than_this_machines_is_refused(open_one: Served, host: str) -> None:
    for line in ("GET /health", "GET /v1/models", "POST /v1/feedback"):
        raw = open_one.raw(f"{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert (status_of(raw), error_of(raw)["code"]) == (421, "unknown_host")


def test_without_a_key_this_machines_names_are_answered_at_any_port(open_one: Served) -> None:
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]", f"[::1]:{open_one.port}"):
        raw = open_one.raw(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert status_of(raw) == 200


@pytest.mark.parametrize(
    ("host", "key", "status"),
    [("127.0.0.1", "", 421), ("localhost", "", 421), ("::1", "", 421),
     ("127.0.0.1", KEY, 200), ("0.0.0.0", "", 200), ("127.0.0.2", "", 200), ("box.example", "", 200)],
)  # fmt: skip
def test_names_are_checked_only_on_this_machine_and_without_a_key(
    tmp_path: Path, host: str, key: str, status: int
) -> None:
    chosen, metrics, roster = ServeOptions(host=host, out=tmp_path), Metrics(), Roster(Listed("base"))
    app = site_app(chosen, Nobody(), roster, metrics, key, None)
    headers = {"Host": "box.example", "Authorization": f"Bearer {key}"}
    assert TestClient(app).get("/v1/models", headers=headers).status_code == status
