"""Hostile HTTP requests: each is answered or refused in one shape; no crash, no hang, no write outside."""

import contextlib
import http.client
import io
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from agent.server.settings import ServeOptions
from cao.encodings import visible
from cao.machine.assets import cache_dir
from tests.agent.server.running_site import KEY, SECRET, Served, another_server, in_front_of, options, serving
from tests.survival import hostile_requests
from tests.survival.damage import not_hanging
from tests.survival.hostile_requests import CHAT, Hostile, hostile
from tests.survival.writes import outside, writes_seen

BATCH = 50
SOON_S = 60
GOOD = {"model": "base", "prompt": "Tom has 12 apples", "max_tokens": 4, "temperature": 0}
RESET = struct.pack("ii", 1, 0)
SMALL = {"max_body": 60_000, "timeout_s": 0.5, "max_tokens": 16, "watch": True, "reference": ["piqa"]}
BAD_WORDS: list[object] = ["redirect", "busy", "html", "odd", "slow", "half"]
"""Prompts at which the other server misbehaves, each in a way of its own."""

Storm = Callable[[ServeOptions, str], None]
"""Sends hostile requests to the server of such options; the words say in the figure where it stands."""


class Kept(io.BytesIO):
    """Bytes that stay readable behind the end of one answer."""

    def close(self) -> None:
        """Do nothing."""


class Wire:
    """What an answer of the standard library's client is read from."""

    def __init__(self, raw: bytes) -> None:
        self.bytes = Kept(raw)

    def makefile(self, mode: str) -> Kept:
        return self.bytes


def answers(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the status and the body of each answer; the last one may be cut where the client left."""
    wire = Wire(raw)
    while wire.bytes.tell() < len(raw):
        one = http.client.HTTPResponse(wire)  # type: ignore[arg-type]
        try:
            one.begin()
            yield one.status, one.read()
        except (http.client.IncompleteRead, http.client.BadStatusLine, http.client.RemoteDisconnected):
            return


def sound(status: int, body: bytes) -> bool:
    """Return whether an answer is one, or an error in the one shape that all have, without anything hidden."""
    if SECRET.encode() in body:
        return False
    if status == 200:
        return True
    told = json.loads(body)["error"]
    texts = [value for value in told.values() if value is not None]
    shaped = set(told) == {"message", "type", "param", "code"} and all(text == visible(text) for text in texts)
    theirs = status in (502, 504) and str(told["code"]).startswith("upstream")
    return (400 <= status < 499 or theirs) and shaped and bool(told["message"]) and "Traceback" not in told["message"]


def until_closed(it: socket.socket) -> bytes:
    """Return what comes until the other side closes; a server that does not is one that hangs."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while part := it.recv(65_536):
            got += part
    return got


def sent(port: int, one: Hostile) -> socket.socket:
    """Open a connection, send what there is, as long as the other side takes it, and end as the request says."""
    it = socket.create_connection(("127.0.0.1", port), timeout=SOON_S)
    with contextlib.suppress(ConnectionError):
        for part in one.parts:
            it.sendall(part)
    if one.ending == "half":
        with contextlib.suppress(OSError):  # it was closed there already
            it.shutdown(socket.SHUT_WR)
    if one.ending == "reset":
        it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        it.close()
    return it


def batch(it: Served, draw: random.Random, n: int, answered: list[str], seen: Counter[str]) -> None:
    """Send some requests, and close those connections last on which nothing more was said."""
    left: list[tuple[Hostile, socket.socket]] = []
    for _ in range(n):
        one = hostile(draw, KEY, answered)
        connection = sent(it.port, one)
        if one.ending == "open":
            left.append((one, connection))
        elif one.ending != "reset":
            judge(one, connection, seen)
        else:
            seen["broken off"] += 1
    for one, connection in left:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        judge(one, connection, seen)


def judge(one: Hostile, connection: socket.socket, seen: Counter[str]) -> None:
    """Read what was answered, and fail where that is no answer."""
    with connection:
        raw = until_closed(connection)
    told = list(answers(raw))
    assert all(sound(*each) for each in told), (one, raw[-2_000:])
    if one.one:
        assert len(told) == 1, (one, raw[:2_000])
    for status, _ in told[:1]:
        seen["answered" if status == 200 else "refused"] += 1
    seen["without an answer"] += not told


@pytest.fixture
def storm(
    tmp_path: Path,
    draw: random.Random,
    many: Callable[[int, int], int],
    figure: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Storm:
    """Send hostile requests to a server; behind each batch it answers a good one as before, and watches still."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def sent_to(chosen: ServeOptions, where: str) -> None:
        seen, answered, requests = Counter[str](), list[str](), many(150, 5_000)
        with writes_seen() as changed, serving(chosen, KEY) as it:
            [first] = it.post("/v1/completions", **GOOD)[1]["choices"]
            for begun in range(0, requests, BATCH):
                answered.append(it.post("/v1/chat/completions", **CHAT)[1]["id"])
                with not_hanging():
                    batch(it, draw, min(BATCH, requests - begun), answered[-20:], seen)
                    status, told, _ = it.post("/v1/completions", **GOOD)
                assert (status, told["choices"]) == (200, [first])
                assert it.send("/health")[1]["watch"] == "ok"
                assert "defect" not in (said := capsys.readouterr().err), said
        assert outside(changed, cache_dir(), tmp_path) == []
        assert seen["answered"]
        assert seen["refused"]
        figure(f"fuzzed HTTP requests{where}: {sum(seen.values())}, {dict(seen)}")

    return sent_to


def test_fuzzed_requests_are_answered_or_refused_in_one_shape(
    tiny_model_folder: Path, tmp_path: Path, storm: Storm
) -> None:
    storm(options(tiny_model_folder, tmp_path / "serve", **SMALL), "")


def test_fuzzed_requests_before_another_server_do_not_harm_it_either(
    tmp_path: Path, storm: Storm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other server answers as it likes: it redirects, breaks off, sends pages, and is closed in the middle."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setattr(hostile_requests, "ODD", [*hostile_requests.ODD, *BAD_WORDS * 4])
    with another_server(tmp_path) as other:
        storm(in_front_of(other, tmp_path / "serve", **SMALL), " before another server")
