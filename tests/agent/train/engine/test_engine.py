"""Engines: the same results wherever jobs run, and what a damaged job, a dead worker and a deaf address cost."""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.train.engine import engines, on_ray
from agent.train.engine.engines import ENGINES, check_engine, open_engine
from agent.train.engine.settings import EngineSettings, read_engine
from agent.train.engine.work import Work, WorkerDiedError
from cao.errors import InputError, UnavailableError
from tests.agent import tiny_pretrained
from tests.agent.train.engine import engine_jobs
from tests.agent.train.engine.engine_jobs import begun

pytestmark = pytest.mark.slow

LOCAL, RAY = EngineSettings(), EngineSettings(kind="ray")


def work(folder: Path, do: Any = engine_jobs.square) -> Work[Any, int, int]:
    return Work(partial(engine_jobs.sit_down, folder), do, offline=True)


@pytest.fixture(params=[pytest.param(("local", 1), id="here"), pytest.param(("local", 2), id="processes"), "ray"])
def engine(request: pytest.FixtureRequest) -> tuple[EngineSettings, int]:
    if request.param == "ray":
        pytest.importorskip("ray")
        return RAY, 2
    kind, count = request.param
    return EngineSettings(kind=kind), count


@pytest.fixture(params=[LOCAL, RAY], ids=["processes", "ray"])
def two(request: pytest.FixtureRequest) -> EngineSettings:
    """An engine that two workers are asked of."""
    if request.param is RAY:
        pytest.importorskip("ray")
    engine: EngineSettings = request.param
    return engine


def test_the_table_has_every_engine_of_the_folder() -> None:
    assert {module.__name__ for module in ENGINES.values()} == {"agent.train.engine.local", "agent.train.engine.on_ray"}
    assert set(ENGINES) == {"local", "ray"}
    assert all(callable(module.check) and callable(module.workers) for module in ENGINES.values())
    found = {path.stem for path in Path(engines.__file__).parent.glob("*.py")}
    assert found == {"__init__", "engines", "settings", "work", "local", "on_ray"}


@pytest.mark.slow
def test_every_job_is_done_once_and_a_worker_is_set_up_once(engine: tuple[EngineSettings, int], tmp_path: Path) -> None:
    settings, count = engine
    with open_engine(settings, count, work(tmp_path)) as run:
        first = dict(run([3, 1, 2, 1]))
        second = list(run([5]))
        assert list(run([])) == []
    assert (first, second) == ({1: 1, 2: 4, 3: 9}, [(5, 25)])
    assert sorted(name for name, _ in begun(tmp_path, "job")) == ["1", "1", "2", "3", "5"]
    workers = [process for _, process in begun(tmp_path, "worker")]
    assert 1 <= len(workers) == len(set(workers)) <= count
    assert (os.getpid() in workers) == (count == 1)


@pytest.mark.slow
def test_results_come_as_they_are_done(engine: tuple[EngineSettings, int], tmp_path: Path) -> None:
    settings, count = engine
    if count == 1:
        pytest.skip("one after the other")
    (tmp_path / "wait-0").touch()
    with open_engine(settings, count, work(tmp_path)) as run:
        found = []
        for job, _ in run([0, 1, 2]):
            found.append(job)
            (tmp_path / "wait-0").unlink(missing_ok=True) if len(found) == 2 else None
    assert found == [1, 2, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("do", "raised", "words"),
    [(engine_jobs.refuse, InputError, "^job 1 is damaged; delete it$"), (engine_jobs.fail, Exception, "by zero")],
)
def test_what_a_job_raises_is_raised(
    engine: tuple[EngineSettings, int], tmp_path: Path, do: Any, raised: type[Exception], words: str
) -> None:
    settings, count = engine
    with pytest.raises(raised, match=words), open_engine(settings, count, work(tmp_path, do)) as run:
        list(run([0, 1, 2]))


def test_a_process_that_is_set_up_already_is_not_set_up_again(tmp_path: Path) -> None:
    here = engine_jobs.Desk(tmp_path, lambda label, done, total: None)
    with open_engine(LOCAL, 1, work(tmp_path), here=here) as run:
        assert dict(run([2])) == {2: 4}
    assert begun(tmp_path, "worker") == []


# a dead worker -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_worker_costs_the_one_job_that_it_was_at(
    two: EngineSettings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wait-1").touch()

    def kill() -> None:
        while len(begun(tmp_path, "job")) < 6:  # all others are done or at work
            time.sleep(0.02)
        [(_, victim)] = begun(tmp_path, "job", "1")
        psutil.Process(victim).kill()
        (tmp_path / "wait-1").unlink()

    killer = threading.Thread(target=kill)
    killer.start()
    with open_engine(two, 2, work(tmp_path)) as run:
        assert dict(run(list(range(6)))) == {job: job**2 for job in range(6)}
    killer.join()
    starts = [name for name, _ in begun(tmp_path, "job")]
    assert sorted(starts) == ["0", "1", "1", "2", "3", "4", "5"]
    assert len({process for _, process in begun(tmp_path, "job", "1")}) == 2
    if two is RAY:
        assert len(begun(tmp_path, "worker")) == 3  # the one that was killed began anew
        assert "standard output" not in capfd.readouterr().out


@pytest.mark.slow
def test_a_worker_that_dies_between_two_jobs_costs_nothing(two: EngineSettings, tmp_path: Path) -> None:
    with open_engine(two, 2, work(tmp_path)) as run:
        assert dict(run([1, 2, 3])) == {1: 1, 2: 4, 3: 9}
        for _, worker in begun(tmp_path, "worker"):
            psutil.Process(worker).kill()
        time.sleep(0.5)
        assert dict(run([4, 5])) == {4: 16, 5: 25}


@pytest.mark.slow
def test_a_job_that_kills_every_worker_is_told_when_the_others_are_done(two: EngineSettings, tmp_path: Path) -> None:
    found = []
    with pytest.raises(WorkerDiedError, match="a worker died 4 times at one job") as told:  # noqa: SIM117
        with open_engine(two, 2, work(tmp_path, engine_jobs.die)) as run:
            found.extend(run([0, 1, 2, 3, 4]))  # what was yielded before the error stays
    assert sorted(found) == [(0, 0), (2, 2), (3, 3), (4, 4)]
    assert told.value.jobs == (1,)
    assert len(begun(tmp_path, "job", "1")) == 4


# an address ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray cluster of this machine alone, with a token of its own, which the command did not start."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    more = ["--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats", "--block"]
    log = tmp_path_factory.mktemp("cluster") / "log"
    with log.open("w") as told:
        started = [sys.executable, "-m", "ray.scripts.scripts", "start", *more]
        head = subprocess.Popen(started, cwd="/", stdout=told, stderr=told)
    address, deadline = f"127.0.0.1:{port}", time.monotonic() + 120
    try:
        while not _ready(address):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield address
    finally:
        head.terminate()
        head.wait(60)


def _ready(address: str) -> bool:
    try:
        check_engine(EngineSettings(kind="ray", address=address))
    except UnavailableError:
        return False
    return True


@pytest.mark.slow
def test_workers_of_a_cluster_work_in_this_folder_and_go_when_the_work_is_done(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = [sys.executable, "-m", "tests.agent.train.engine.engine_jobs", cluster, str(tmp_path)]
    for _ in range(2):  # in a process of its own: Ray reads its token once; and the cluster outlasts the first
        ended = subprocess.run(program, cwd=tiny_pretrained.ROOT, capture_output=True, text=True, check=False)
        assert json.loads(ended.stdout) == [[1, 1], [2, 4], [3, 9]], ended.stderr
    assert [name for name, _ in begun(tmp_path, "job", "2")] == ["2", "2"]
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    on_ray.check_answers.cache_clear()
    with pytest.raises(UnavailableError, match=f"Ray cluster at {cluster} wants its token; .*RAY_AUTH_MODE=token"):
        check_engine(EngineSettings(kind="ray", address=cluster))


# refusals ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
def test_an_address_that_does_not_answer_is_named_in_time(deaf: str) -> None:
    pytest.importorskip("ray")
    for address in ("127.0.0.1:9", "no-such-host.invalid:6379", deaf):
        started = time.monotonic()
        with pytest.raises(UnavailableError, match=f"no Ray cluster answers at {address}; .*ray start --head"):
            check_engine(EngineSettings(kind="ray", address=address))
        assert time.monotonic() - started < 15


def test_without_ray_the_message_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnavailableError, match=r"run: python -m pip install -c constraints.txt -e '\.\[cluster\]'"):
        check_engine(RAY)


@pytest.mark.slow
def test_more_workers_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with (
        pytest.raises(InputError, match="2 workers need GPU 128, Ray on this machine has"),
        open_engine(RAY.model_copy(update={"gpus": 64}), 2, work(tmp_path)),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("engine = 'ray'", "write it as a table"),
        ("[engine]\nkind = 'spark'", "engine.kind: Input should be 'local' or 'ray'"),
        ("[engine]\nkind = 'ray'\naddress = 'here'", "write it as HOST:PORT"),
        ("[engine]\naddress = '127.0.0.1:1'", 'engine.address is for kind = "ray"'),
        ("[engine]\nworkers = 2", "engine.workers: unknown key"),
        ("[engine", "not TOML"),
    ],
)
def test_a_table_that_cannot_be_is_refused(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "engine.toml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_engine(file)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


def test_the_table_is_read_and_nothing_is_the_default(tmp_path: Path) -> None:
    file = tmp_path / "engine.toml"
    file.write_text("[engine]\nkind = 'ray'\naddress = '[::1]:6379'\ncpus = 4\ngpus = 0.5\n")
    assert read_engine(file) == EngineSettings(kind="ray", address="[::1]:6379", cpus=4, gpus=0.5)
    assert read_engine(None) == EngineSettings()
    with pytest.raises(InputError, match="cannot be read"):
        read_engine(tmp_path / "missing.toml")
    with pytest.raises(InputError, match="--workers is 1 or more"), open_engine(LOCAL, 0, work(tmp_path)):
        pass
