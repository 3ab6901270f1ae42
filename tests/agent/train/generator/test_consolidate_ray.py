"""Consolidation on two Ray workers of this machine: the same bytes as in one process, also where a worker is killed."""

import io
import json
import os
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import psutil
import pytest

from agent.consolidate import main
from agent.train.generator import run as consolidation_run
from cao.files import sha256_file
from tests.agent.train.engine.engine_jobs import begun
from tests.agent.train.generator.tiny_consolidation import FOLDER, command, killed, slow_do

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.integration]


def call(argv: list[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(argv)
    return code, out.getvalue(), err.getvalue()


def content(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", "index.json")]
    return {str(path.relative_to(folder)): sha256_file(path) for path in files}


@pytest.fixture(scope="module")
def serial(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("serial")
    code, _, err = call(command(tiny_model_folder, out))
    assert code == 0, err
    return out / FOLDER


@pytest.fixture
def ray(tiny_model_folder: Path, tmp_path: Path) -> list[str]:
    """The command on two Ray workers."""
    file = tmp_path / "engine.toml"
    file.write_text("[engine]\nkind = 'ray'\n")
    return command(tiny_model_folder, tmp_path, "--config", str(file), "--workers", "2", "--json")


def test_a_worker_killed_in_the_middle_costs_its_job_and_nothing_else(
    serial: Path, ray: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, notes, slow = tmp_path / FOLDER, tmp_path / "begun", "checkpoints-arc_easy"
    notes.mkdir()
    monkeypatch.setenv("SLOW", "checkpoints/arc_easy")
    monkeypatch.setattr(consolidation_run, "do", slow_do)

    def kill() -> None:
        deadline = time.monotonic() + 120
        while not (folder / "checkpoints" / "arc_easy.partial").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        psutil.Process(begun(notes, "job", slow)[-1][1]).kill()

    killer = threading.Thread(target=kill)
    killer.start()
    code, out, err = call(ray)
    killer.join()
    assert code == 0, err
    assert json.loads(out) == json.loads((folder / "index.json").read_text())
    assert content(folder) == content(serial)
    starts = [name for name, _ in begun(notes, "job")]
    assert sorted(starts) == sorted([*(name.replace(" ", "-") for name in JOBS), slow])
    assert len({process for _, process in begun(notes, "job", slow)}) == 2
    assert "[10/10 done]" in err


JOBS = (
    *("states arc_easy", "states openbookqa", "checkpoints arc_easy", "checkpoints openbookqa"),
    *("union full", "union without-openbookqa", "generator full", "generator without-openbookqa"),
    *("aligner full", "aligner without-openbookqa"),
)


def test_a_killed_command_takes_its_workers_along_and_any_engine_goes_on(
    serial: Path, ray: list[str], tmp_path: Path, tiny_model_folder: Path
) -> None:
    folder = tmp_path / FOLDER
    assert killed(ray, folder / "states" / "arc_easy.safetensors", "nothing") == -9
    assert not (folder / "index.json").exists()
    code, _, err = call(command(tiny_model_folder, tmp_path))
    assert code == 0, err
    assert content(folder) == content(serial)


def test_an_address_that_does_not_answer_ends_the_command_with_3(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "engine.toml"
    file.write_text("[engine]\nkind = 'ray'\naddress = '127.0.0.1:9'\n")
    monkeypatch.setattr(os, "environ", os.environ.copy())
    started = time.monotonic()
    code, out, err = call(command(tiny_model_folder, tmp_path, "--config", str(file), "--workers", "2"))
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert err.startswith("error: no Ray cluster answers at 127.0.0.1:9; ")
    assert time.monotonic() - started < 15
    assert not (tmp_path / FOLDER / "config.json").exists()
