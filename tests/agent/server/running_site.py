"""A server in this process for the length of a test: the real application, the real web server, a real client."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import openai

from agent.server.building import Site, make_site
from agent.server.roster import places
from agent.server.settings import ServeOptions
from agent.server.web import Web, address, bound
from tests.agent.server import other_server

KEY = "a-key-of-the-tests"
SECRET = "sk-a-secret-of-the-tests-0123456789"
"""The other server's key, which nobody is told."""


@dataclass
class Served:
    """Where a server of this process is found."""

    root: str
    site: Site
    port: int
    key: str = ""

    @cached_property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.root}/v1", api_key=self.key or "none", max_retries=0, timeout=60)

    def send(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Send raw bytes; returns status, JSON or text, headers."""
        key = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        heads = {"Content-Type": "application/json", **key, **{k.replace("_", "-"): v for k, v in headers.items()}}
        asked = urllib.request.Request(self.root + path, data=body, headers=heads)
        try:
            with urllib.request.urlopen(asked, timeout=60) as reply:
                raw, status, got = reply.read(), reply.status, dict(reply.headers)
        except urllib.error.HTTPError as error:
            raw, status, got = error.read(), error.code, dict(error.headers)
        text = raw.decode()
        return status, json.loads(text) if text.startswith(("{", "[")) else text, got

    def post(self, path: str, **body: Any) -> tuple[int, Any, dict[str, str]]:
        return self.send(path, json.dumps(body).encode())

    def raw(self, sent: bytes, *, more: bool = False) -> bytes:
        """Send bytes to the port and return what comes until the other side closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as it:
            it.sendall(sent)
            if not more:
                with contextlib.suppress(OSError):  # it was closed there already
                    it.shutdown(socket.SHUT_WR)
            got = b""
            while part := it.recv(65536):
                got += part
            return got


@dataclass
class Other:
    """A server of another make, in a process of its own."""

    url: str
    folder: Path

    def asked(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "asked.jsonl").read_text().splitlines()]


@contextmanager
def another_server(folder: Path) -> Iterator[Other]:
    """Run one; what is asked of it lies in the folder."""
    command = [sys.executable, str(Path(other_server.__file__)), "0", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield Other(f"http://127.0.0.1:{int(process.stdout.readline())}/v1", folder)
        process.terminate()


def in_front_of(other: Other, out: Path, **more: Any) -> ServeOptions:
    told = {"upstream": other.url, "upstream_model": other_server.BASE, "port": 0, "offline": True, "timeout_s": 2}
    return ServeOptions.model_validate({**told, "out": out, **more})


def options(model: Path, out: Path, **more: Any) -> ServeOptions:
    given = {"model": "qwen2.5-0.5b", "model_path": str(model), "dtype": "float32", "offline": True, "port": 0}
    return ServeOptions.model_validate({**given, "out": out, **more})


@contextmanager
def serving(chosen: ServeOptions, key: str = "", file: Path | None = None) -> Iterator[Served]:
    """Serve in a thread; at the end it drains."""
    ready = threading.Event()
    site = make_site(chosen, places(chosen), key, file)
    sock = bound(chosen.host, chosen.port)
    web = Web(site.app, chosen.timeout_s, chosen.drain_s, ready.set)
    thread = threading.Thread(target=web.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        assert ready.wait(30)
        yield Served(address(sock), site, sock.getsockname()[1], key)
    finally:
        web.should_exit = True
        thread.join()
        site.stop()
