"""The application and the web server around it: nobody waits for a lock, and what is cut off at the end is counted."""

import asyncio
import json
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from agent.server import running
from agent.server.app import make_app
from agent.server.engine import Engine
from agent.server.metrics import Metrics
from agent.server.roster import Roster
from agent.server.roster import Served as Model
from agent.server.settings import ServeOptions
from agent.server.web import Web
from tests.agent.server.running_site import Served


async def get(app: Any, path: str) -> tuple[int, Any]:
    """Ask an application as a web server does."""
    told: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "headers": [],
        "query_string": b"",
    }
    await app(scope, receive, send)
    return told[0]["status"], json.loads(b"".join(one.get("body", b"") for one in told))


def test_whoever_asks_for_the_health_holds_nobody_up() -> None:
    asked = threading.Event()

    def health() -> dict[str, Any]:
        return {"status": "ok" if asked.wait(5) else "nobody else was answered"}

    def models() -> list[dict[str, Any]]:
        asked.set()
        return []

    async def both() -> list[tuple[int, Any]]:
        app: Any = make_app(None, models, lambda given: {}, health, Metrics())  # type: ignore[arg-type]
        return list(await asyncio.gather(get(app, "/health"), get(app, "/v1/models")))

    assert [status for status, _ in asyncio.run(both())] == [200, 200]


def test_a_model_is_told_of_by_its_name(it: Served) -> None:
    assert it.client.models.retrieve("base").id == "base"
    status, told, _ = it.send("/v1/models/gpt-9")
    assert (status, told["error"]["code"]) == (404, "model_not_found")
    assert it.send("/v1/models/")[1]["error"]["code"] == "no_such_route"


def test_more_texts_than_ever_fit_into_the_queue_are_refused_for_good(
    it: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "room", property(lambda self: 3, lambda self, room: None), raising=False)
    status, told, _ = it.post("/v1/completions", model="base", prompt=["a", "b"], n=2)
    assert (status, told["error"]["code"]) == (400, "too_many_texts")
    assert it.post("/v1/completions", model="base", prompt=["a"], n=2, max_tokens=1)[0] == 200


def test_models_are_listed_while_they_change() -> None:
    class Changing(dict[str, Model]):
        def __iter__(self) -> Any:
            raise RuntimeError("dictionary changed size during iteration")

    roster = Roster(Model("base"))
    roster.by_drift = Changing({"drift-1": Model("drift-1")})
    assert roster.names == ["base", "auto", "drift-1"]


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(60)


def test_requests_that_were_cut_off_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ServeOptions.model_validate({"port": 0, "drain_s": 1, "out": tmp_path})
    webs: list[Web] = []

    class Asked(Web):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            webs.append(self)
            assert sockets is not None
            asking = socket.create_connection(sockets[0].getsockname())
            asking.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            asyncio.get_running_loop().call_later(0.5, setattr, self, "should_exit", True)
            self.asking = asking

    site = SimpleNamespace(app=never, roster=Roster(Model("base")), stop=lambda: None)
    monkeypatch.setattr(running, "Web", Asked)
    monkeypatch.setattr(running, "make_site", lambda *_: site)
    assert running.serve(options, None, as_json=True) == 0
    assert webs[0].cut == 1
    assert "1 requests were cut off, unanswered after 1 s (--drain-s); ended" in capsys.readouterr().err
