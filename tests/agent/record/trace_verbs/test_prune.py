"""Removing runs: shown first, never more than was shown, and never what is no run."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from agent import trace
from agent.record.reading import read_run
from cao.files import write_sums
from tests.agent import run_folders as made


def old(out: Path, run_id: str, created: str, **changes: Any) -> Path:
    return made.write_run(out, run_id, {**made.record(run_id), "created": created, **changes})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three finished runs, an unfinished one, and what is none."""
    out = tmp_path / "runs"
    for day in (1, 2, 3):
        old(out, f"run-{day}", f"2026-11-0{day}T00:00:00Z")
    made.write_unfinished(out, "killed", keep=9)
    (out / "model").mkdir()
    (out / "model" / "config.json").write_text('{"architectures": ["Qwen2ForCausalLM"]}')
    (out / "renamed").mkdir()
    (out / "renamed" / "config.json").write_text('{"run_id": "run-1"}')
    (out / "notes").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "config.json").write_text('{"run_id": "linked"}')
    (out / "linked").symlink_to(tmp_path / "elsewhere")
    (out / "alias").symlink_to(out / "run-1")
    return out


def prune(capsys: pytest.CaptureFixture[str], out: Path, *words: str) -> dict[str, Any]:
    status = trace.main(["prune", *words, "--out", str(out), "--json"])
    printed, err = capsys.readouterr()
    assert (status, err) == (0, "")
    value: dict[str, Any] = json.loads(printed)
    return value


def names(value: dict[str, Any]) -> list[str]:
    return [run["run_id"] for run in value["runs"]]


def left(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


EVERYTHING = {"run-1", "run-2", "run-3", "killed", "model", "renamed", "notes", "linked", "alias"}


def test_without_yes_nothing_is_removed(capsys: pytest.CaptureFixture[str], out: Path) -> None:
    value = prune(capsys, out, "--keep", "0")
    assert sorted(names(value)) == ["killed", "run-1", "run-2", "run-3"]
    assert (value["removed"], left(out)) == (False, EVERYTHING)
    assert value["bytes"] == sum(run["bytes"] for run in value["runs"]) > 10_000


def test_only_run_folders_are_removed_and_no_link_is_followed(capsys: pytest.CaptureFixture[str], out: Path) -> None:
    (out / "run-1" / "away").symlink_to(out.parent / "elsewhere")
    value = prune(capsys, out, "--keep", "0", "--yes")
    assert all(run["removed"] for run in value["runs"])
    assert left(out) == {"model", "renamed", "notes", "linked", "alias"}
    assert (out.parent / "elsewhere" / "config.json").is_file()


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (["--keep", "2"], {"run-1", "run-2"}),
        (["--keep", "9"], set()),
        (["--unfinished"], {"killed"}),
        (["--older-than", "0"], {"killed", "run-1", "run-2", "run-3"}),
        (["--older-than", "100000"], set()),
        (["--unfinished", "--keep", "1"], set()),
    ],
)
def test_the_newest_stay_and_every_condition_must_fit(
    capsys: pytest.CaptureFixture[str], out: Path, words: list[str], gone: set[str]
) -> None:
    (out / "alias").unlink()
    assert set(names(prune(capsys, out, *words, "--yes"))) == gone
    assert left(out) == EVERYTHING - gone - {"alias"}


def test_a_run_that_a_process_works_on_stays(capsys: pytest.CaptureFixture[str], out: Path) -> None:
    with FileLock(out / "killed" / ".lock"):
        assert names(prune(capsys, out, "--unfinished", "--yes")) == []
    assert "killed" in left(out)


def test_parts_leave_what_serves_and_what_is_read(capsys: pytest.CaptureFixture[str], out: Path) -> None:
    path = out / "run-3"
    record = made.record("run-3")
    record["adopted"]["together"] = {"adapters": ["adapters/aa", None], "method": "avg_prompt_embed", "routes": None}
    (path / "run.json").write_text(json.dumps(record))
    for name in ("adapters/aa", "adapters/bb", "adapter"):
        (path / name).mkdir(parents=True)
        (path / name / "adapter_model.safetensors").write_bytes(b"x" * 1000)
    for name in ("checkpoints.sqlite", "checkpoints.sqlite-wal", "report.html"):
        (path / name).write_bytes(b"y" * 10)
    value = prune(capsys, out, "--keep", "0", "--parts", "--yes")
    assert names(value) == ["run-3"]
    assert value["bytes"] == 1020
    assert {each.name for each in path.iterdir()} >= {
        "run.json",
        "report.html",
        "adapter",
        "trace.jsonl",
        "config.json",
    }
    assert [each.name for each in (path / "adapters").iterdir()] == ["aa"]
    assert not list(path.glob("checkpoints*"))


def test_parts_leave_the_adapter_that_the_deployed_model_carries(capsys: pytest.CaptureFixture[str], out: Path) -> None:
    path, record = out / "run-3", made.record("run-3")
    record |= {"adopted": None, "status": "no_improvement", "config": {**record["config"], "start_adapter": "mine"}}
    (path / "run.json").write_text(json.dumps(record))
    (path / "adapters" / "aa").mkdir(parents=True)
    (path / "checkpoints.sqlite").write_bytes(b"y")
    assert names(prune(capsys, out, "--keep", "0", "--parts", "--yes")) == ["run-3"]
    assert (path / "adapters" / "aa").is_dir()
    assert not list(path.glob("checkpoints*"))


def test_parts_leave_what_the_runs_hashes_list(capsys: pytest.CaptureFixture[str], out: Path) -> None:
    path, routes = out / "run-3", out / "run-3" / "adapters" / "routes-12.safetensors"
    routes.parent.mkdir()
    routes.write_bytes(b"x")
    (path / "adapters" / "aa").mkdir()
    write_sums(path, [path / "run.json", routes])
    assert names(prune(capsys, out, "--keep", "0", "--parts", "--yes")) == ["run-3"]
    assert [each.name for each in (path / "adapters").iterdir()] == [routes.name]
    assert read_run(path).status == "improved"


def test_people_see_what_would_go_and_how(capsys: pytest.CaptureFixture[str], out: Path) -> None:
    assert trace.main(["prune", "--unfinished", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "killed" in shown
    assert "would be removed; --yes removes" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which runs?"),
        (["--yes"], "which runs?"),
        (["--keep", "-1"], "keep"),
        (["--older-than", "nan"], "older_than"),
    ],
)
def test_what_names_no_runs_is_refused(
    capsys: pytest.CaptureFixture[str], out: Path, words: list[str], message: str
) -> None:
    assert trace.main(["prune", *words, "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert (message in err, err.count("\n"), left(out)) == (True, 1, EVERYTHING)


def test_what_a_killed_removal_left_goes_with_the_next(capsys: pytest.CaptureFixture[str], out: Path) -> None:
    shutil.copytree(out / "run-1", out / ".deleting.run-9")
    os.symlink(out / "run-2", out / ".deleting.link")
    prune(capsys, out, "--unfinished", "--yes")
    assert ".deleting.run-9" not in left(out)
    assert (out / "run-2" / "run.json").is_file()
