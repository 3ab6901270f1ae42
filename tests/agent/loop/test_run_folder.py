"""A run's folder while it is made: complete or absent, held by one run, shown as it is."""

import io
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, redirect_stdout
from pathlib import Path

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint

from agent import trace
from agent.loop import run_folder
from cao.errors import InputError, UnavailableError
from cao.files import write_json
from tests.agent.loop.started_runs import Started, begun, command, resume
from tests.agent.run.tiny_runs import result

ROOT = Path(__file__).parents[3]


def test_a_request_to_terminate_ends_a_run_as_an_interrupt_does(started: Started, cut: Path) -> None:
    assert started.status == 130
    assert f"interrupted; go on with: python -m agent.run --resume {cut.name} --out " in started.told
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not (cut / "run.json").exists()
    status, out, err = resume(started, cut)
    assert status == 0, err
    assert result(json.loads(out)) == result(started.record)


def test_a_file_that_another_program_holds_is_waited_for_and_not_called_damaged(
    started: Started, cut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "PATIENCE_S", 0.3)
    with closing(sqlite3.connect(cut / "checkpoints.sqlite")) as other:
        other.execute("begin exclusive")
        status, out, err = resume(started, cut)
        assert (status, out) == (3, "")
        assert "checkpoints.sqlite: another program holds it" in err
        assert f"stopped; go on with: python -m agent.run --resume {cut.name}" in err
        monkeypatch.undo()
        other.rollback()
    status, out, err = resume(started, cut)
    assert status == 0, err
    assert result(json.loads(out)) == result(started.record)


@pytest.mark.parametrize(("patience_s", "held_s", "status"), [(20.0, 0.6, 0), (0.2, 120.0, 3)])
def test_a_run_at_work_waits_for_another_program_but_not_for_ever(
    started: Started,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    patience_s: float,
    held_s: float,
    status: int,
) -> None:
    monkeypatch.setattr(run_folder, "PATIENCE_S", patience_s)
    over = threading.Event()

    def hold() -> None:
        path = begun("apply", tmp_path / "runs") / "checkpoints.sqlite"
        with closing(sqlite3.connect(path, timeout=20)) as other:
            other.execute("begin immediate")
            over.wait(held_s)

    thread = threading.Thread(target=hold)
    thread.start()
    found, _, err = command(started.argv, "--out", str(tmp_path / "runs"))
    over.set()
    thread.join()
    assert found == status, err
    assert ("checkpoints.sqlite: another program holds it" in err) == (status == 3)
    [folder] = (tmp_path / "runs").iterdir()
    again, out, err = resume(started, folder)
    assert again == 0, err
    assert result(json.loads(out)) == result(started.record)


@pytest.mark.parametrize("limit", [0, 1_000, 8_000, 40_000, 100_000])
def test_no_room_names_what_was_written_and_the_run_goes_on_later(started: Started, tmp_path: Path, limit: int) -> None:
    """Files may not grow beyond a limit: the system says so in the same place as when the disk is full."""
    runs = tmp_path / "runs"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        status, out, err = command(started.argv, "--out", str(runs))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (status, out) == (3, ""), err
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"error: {runs}/")
    assert "files may not grow that large here" in last or "checkpoints.sqlite: disk I/O error" in last
    assert "B are free in" in last
    folders = list(runs.iterdir())
    if not folders:  # not even its header
        assert limit < 8_000
        return
    assert f"stopped; go on with: python -m agent.run --resume {folders[0].name}" in err
    status, out, err = resume(started, folders[0])
    assert status == 0, err
    assert result(json.loads(out)) == result(started.record)


def test_the_last_checkpoint_is_the_one_that_was_written_last_whatever_the_clock_said(tmp_path: Path) -> None:
    thread: RunnableConfig = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    with run_folder.checkpointer(tmp_path) as saver:
        for name in ("1f0c", "1f0a", "1f0b"):  # ids hold the time
            saver.put(thread, {**empty_checkpoint(), "id": name}, {}, {})
        last = saver.get_tuple(thread)
        assert last is not None
        assert last.checkpoint["id"] == "1f0b"
        assert [one.checkpoint["id"] for one in saver.list(thread)] == ["1f0b", "1f0a", "1f0c"]


def test_a_run_at_work_is_shown_as_such(started: Started, cut: Path) -> None:
    def shown(*words: str) -> str:
        with redirect_stdout(io.StringIO()) as out:
            assert trace.main([*words, "--out", str(cut.parent)]) == 0
        return " ".join(out.getvalue().split())

    with run_folder.locked(cut):
        told = shown("show", cut.name)
        assert "At work" in told
        assert f"python -m agent.trace show {cut.name} --out" in told
        assert "--resume" not in told
        assert json.loads(shown("show", cut.name, "--json"))["status"] == "running"
        assert json.loads(shown("list", "--json"))["runs"][0]["status"] == "running"
        shown("html", cut.name)
        report = (cut / "report.html").read_text(encoding="utf-8")
        assert "At work" in report
        assert "--resume" not in report
    told = shown("show", cut.name)
    assert "Not finished" in told
    assert f"--resume {cut.name}" in told


def test_looking_at_a_run_makes_nothing_in_its_folder(started: Started, cut: Path) -> None:
    (cut / ".lock").unlink(missing_ok=True)
    before = sorted(cut.iterdir())
    with redirect_stdout(io.StringIO()):
        assert trace.main(["show", cut.name, "--out", str(cut.parent)]) == 0
    assert sorted(cut.iterdir()) == before


def test_a_folder_has_its_name_once_its_header_is_in_it(tmp_path: Path) -> None:
    killed = run_folder.new_run_folder(tmp_path, "task")
    name, place = killed.__enter__()  # and no more: the process was killed here
    write_json(place / "config.json", {})
    assert not (tmp_path / name).exists()
    assert place.is_dir()
    with run_folder.new_run_folder(tmp_path, "task") as (other, folder):
        assert place.is_dir()  # it may be of a run that begins at this moment
        write_json(folder / "config.json", {})
    assert [path.name for path in (tmp_path / other).iterdir()] == ["config.json"]
    long_ago = time.time() - 2 * run_folder.LEFT_BEHIND_S
    os.utime(place, (long_ago, long_ago))
    with run_folder.new_run_folder(tmp_path, "task") as (third, _):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([other, third])


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another --out"), run_folder.new_run_folder(tmp_path / "file", "task"):
        pass
    with pytest.raises(UnavailableError), run_folder.new_run_folder(tmp_path, "task"):
        raise UnavailableError("on the way")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_output_that_nothing_has_room_for_is_told() -> None:
    command = [sys.executable, "-m", "agent.trace", "list", "--out", "absent"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("error: what was to be written: the disk is full")
    assert done.stderr.count("\n") == 1


def test_a_run_that_gets_its_name_while_another_one_begins_hinders_nobody(tmp_path: Path) -> None:
    (tmp_path / ".unbegun.other").symlink_to(tmp_path / "has its name now")  # listed, and gone when it is looked at
    with run_folder.new_run_folder(tmp_path, "task") as (name, _):
        pass
    assert (tmp_path / name).is_dir()


WRITES_FOR_EVER = """
import sys, torch
from pathlib import Path
from cao.sealed import write_tensors
while True:
    write_tensors(Path(sys.argv[1]), {"a": torch.zeros(1_000_000)}, {"one": "entry"})
"""


def test_what_a_killed_writer_of_tensors_left_is_gone_once_the_folder_is_held_alone_and_nothing_else(
    tmp_path: Path,
) -> None:
    inside = tmp_path / "checkpoints"
    inside.mkdir()
    left: list[Path] = []
    while not left:  # a kill between two writings leaves nothing
        with subprocess.Popen([sys.executable, "-c", WRITES_FOR_EVER, str(inside / "a.safetensors")]) as writer:
            while not list(inside.glob(".*")):
                assert writer.poll() is None
            writer.kill()
        left = list(inside.glob(".*"))
    others = [tmp_path / name for name in (".git/HEAD", ".env", "project/.venv/pyvenv.cfg", "notes.unfinished/a.txt")]
    others += [tmp_path / "run-at-work" / ".run.json.ab12cd34.unfinished" / "whole", tmp_path / "run-at-work" / ".lock"]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    with run_folder.locked(tmp_path, alone=True):
        assert not list(inside.glob(".*"))
        assert all(path.exists() for path in others)
        assert (tmp_path / ".lock").exists()
