"""Servers that are killed while they adapt, twice in a row, serve in the end what an undisturbed one serves."""

import json
import os
import random
import re
import shutil
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from agent import serve
from cao.files import opened
from tests.agent.killing import forked
from tests.agent.server.drifting import ask, configuration, drifting, new, usual
from tests.agent.server.running_site import serving
from tests.survival.deaths import PATIENCE_S
from tests.survival.records import kept_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("only_long")]

RUN = re.compile(r"-\d{8}-\d{6}-[0-9a-f]{4}")


def serve_until_adapted(argv: list[str]) -> int:
    """Serve; a request to end comes once nothing is adapted to any more."""
    port = argv[argv.index("--port") + 1]

    def end() -> None:
        while True:
            time.sleep(0.1)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as told:
                    if json.load(told)["adapting"] == []:
                        return os.kill(os.getpid(), signal.SIGTERM)
            except OSError:  # it does not serve yet
                continue

    threading.Thread(target=end, daemon=True).start()
    return serve.main(argv)


def served(argv: list[str], death: float | None = None, *, with_run: bool = False) -> tuple[int, float]:
    """Serve in a process of its own until it has adapted, or is killed.

    Args:
        argv: the server's arguments.
        death: seconds of processor time, of the server and of its run, after which it is killed.
        with_run: kill the run too, as a power cut does; else it outlives the server.

    Returns:
        Its exit status, and those seconds.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = forked(serve_until_adapted, [*argv, "--port", str(port)])
    root, spent, deadline = psutil.Process(process.pid), dict[int, float](), time.monotonic() + PATIENCE_S
    while process.is_alive():
        assert time.monotonic() < deadline, "the server hangs"
        family = [root]
        try:
            family += root.children(recursive=True)
            spent |= {one.pid: sum(one.cpu_times()[:2]) for one in family}
        except psutil.NoSuchProcess:
            continue
        if death is not None and sum(spent.values()) >= death:
            for one in family if with_run else family[:1]:
                one.kill()
            break
        time.sleep(0.01)
    process.join()
    assert process.exitcode is not None
    return process.exitcode, sum(spent.values())


@pytest.fixture
def alarmed(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """The folder of a server that ended between an alarm and its run, with feedback; how it is started, less --out."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder, file = tmp_path / "alarmed", configuration(tmp_path)
    with serving(drifting(tiny_model_folder, folder), file=file) as it:
        for row in usual(60):
            ask(it, row)
        for row in new(90):
            assert it.post("/v1/feedback", id=ask(it, row)[0], answer=row["answer"])[0] == 200
        deadline = time.monotonic() + PATIENCE_S
        while it.send("/health")[1]["tasks"] != ["drift-1"]:
            assert time.monotonic() < deadline, "no alarm came"
            time.sleep(0.2)
    for name in ("runs", "tasks"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("state.json", "events.jsonl"):
        (folder / name).unlink(missing_ok=True)
    argv = ["--model", "qwen2.5-0.5b", "--set", f"model_path={tiny_model_folder}", "--dtype", "float32", "--offline"]
    return folder, [*argv, "--adapt", "--reference", "piqa", "--window", "64", "--config", str(file)]


def left(out: Path) -> object:
    """Return what a server goes on from, what it said of it, and what its one run keeps."""
    state = RUN.sub("", opened((out / "state.json").read_bytes()))
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    [run] = (path.parent for path in (out / "runs").glob("*/*/run.json"))
    return state, [(one["event"], one["task"]) for one in events], kept_of(run)


def test_servers_that_adapt(
    alarmed: tuple[Path, list[str]],
    tmp_path: Path,
    draw: random.Random,
    many: Callable[[int, int], int],
    figure: Callable[[str], None],
) -> None:
    """Killed alone, so that its run outlives it, or together with that."""
    folder, argv = alarmed

    def copy(name: str) -> tuple[Path, list[str]]:
        out = shutil.copytree(folder, tmp_path / name)
        return out, [*argv, "--out", str(out)]

    out, words = copy("whole")
    status, seconds = served(words)
    assert status == 0
    whole = left(out)
    assert ("adopted", "drift-1") in whole[1]  # type: ignore[index]
    equal, tries = 0, many(1, 20)
    for n in range(tries):
        out, words = copy(str(n))
        for _ in range(2):
            served(words, draw.uniform(0.0, seconds), with_run=draw.random() < 0.5)
        assert served(words)[0] == 0
        equal += left(out) == whole
    figure(f"servers killed twice in a row while they adapt: {equal} of {tries} equal")
    assert equal == tries
