"""What a run keeps in its folder: checked when it is read again, complete or absent after a kill, small at the end."""

import io
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from agent import trace
from agent.loop import kept, run_folder
from agent.loop.state import Made, State
from agent.run import main
from cao.errors import InputError, UnavailableError
from cao.files import write_json
from cao.model.adapters import adapter_sha256, load_adapter, save_adapter
from cao.types import AdaptedModel, AdapterRef
from tests.agent import tiny_pretrained
from tests.agent.run.test_run import LATENT, SIZES, TTL, result, strategies

TTS = {"family": "TTS", "num_prompt_batches": 2, "method": "avg_prompt_embed"}
ROOT = Path(__file__).parents[3]


@dataclass
class Started:
    """How runs are started here, one that nothing disturbed, and the folder of one that was interrupted early."""

    argv: list[str]
    record: dict[str, Any]
    whole: Path
    cut: Path
    told: str
    status: int


def command(argv: list[str], *more: str) -> tuple[int, str, str]:
    """Run the command; return its status, output and errors."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = main([*argv, *more])
    return status, out.getvalue(), err.getvalue()


def begun(node: str, out: Path) -> Path:
    """Wait until the only run in a folder has come to a node, and return the run's folder."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in out.glob("*/trace.jsonl"):
            if f'"{node}", "event": "start"' in path.read_text():
                return path.parent
        time.sleep(0.001)
    raise TimeoutError(node)


def terminate_at(node: str, out: Path) -> threading.Thread:
    """Ask this process to terminate once the only run in a folder has come to a node."""

    def wait() -> None:
        begun(node, out)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.fixture(scope="module")
def shelf(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lm = tiny_pretrained.load(tiny_model_folder)
    layout = tiny_pretrained.layout_of(lm)
    centres = {"full": torch.zeros(layout.layers, layout.length)}
    return tiny_pretrained.shelve(tmp_path_factory.mktemp("shelf"), lm, centres, {"full": ["arc_easy"]}).parent


@pytest.fixture(scope="module")
def started(shelf: Path, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Started:
    folder = tmp_path_factory.mktemp("started")
    rows = [
        {"question": f"How much is {a} plus 7?", "choices": [str(a + 7), str(a + 8)], "answer": 0} for a in range(60)
    ]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = strategies(folder, {**TTL, "ttl_steps": 60, "learning_rate": 1e-7}, TTS, LATENT)
    argv = ["--task", str(folder / "sums.jsonl"), *SIZES, "--model", "qwen2.5-0.5b", "--policy", "fixed", "--offline"]
    argv += ["--set", f"model_path={tiny_model_folder}", "--set", f"policy_settings.strategy_file={plan}"]
    argv += ["--max-attempts", "3", "--json", "--pretrained", str(shelf)]
    status, out, err = command(argv, "--out", str(folder / "whole"))
    assert status == 0, err
    waiting = terminate_at("apply", folder / "cut")
    status, _, told = command(argv, "--out", str(folder / "cut"))
    waiting.join()
    record = json.loads(out)
    assert [bool(trial["reward"]) for trial in record["trials"]] == [True, True, True], "each family was measured"
    [cut] = (folder / "cut").iterdir()
    return Started(argv, record, folder / "whole" / record["run_id"], cut, told, status)


@pytest.fixture
def cut(started: Started, tmp_path: Path) -> Path:
    """A copy of the interrupted run."""
    return shutil.copytree(started.cut, tmp_path / "runs" / started.cut.name)


def resume(started: Started, folder: Path) -> tuple[int, str, str]:
    return command([*started.argv, "--out", str(folder.parent)], "--resume", folder.name)


def test_a_request_to_terminate_ends_a_run_as_an_interrupt_does(started: Started, cut: Path) -> None:
    assert started.status == 130
    assert f"interrupted; go on with: python -m agent.run --resume {cut.name} --out " in started.told
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not (cut / "run.json").exists()
    status, out, err = resume(started, cut)
    assert status == 0, err
    assert result(json.loads(out)) == result(started.record)


def flip(path: Path, seed: int) -> None:
    """Change one bit of a file's second half, where contents lie and not headers."""
    data = bytearray(path.read_bytes())
    draw = random.Random(seed)
    data[draw.randrange(len(data) // 2, len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def test_a_changed_adapter_is_named_with_the_command_that_makes_it_again(started: Started, cut: Path) -> None:
    weights = sorted(cut.glob("adapters/*/adapter_model.safetensors"))
    flip(weights[0], 0)
    status, out, err = resume(started, cut)
    assert (status, out) == (2, "")
    assert str(weights[0]) in err
    words = err.strip().rpartition("python -m agent.trace ")[2].split()
    with redirect_stdout(io.StringIO()) as told, redirect_stderr(io.StringIO()):
        assert trace.main([*words, "--json"]) == 0
    assert result(json.loads(told.getvalue())) == result(started.record)


@pytest.mark.parametrize("seed", range(3))
def test_changed_items_that_are_built_on_are_named_and_kept_answers_are_measured_again(
    started: Started, cut: Path, seed: int
) -> None:
    for path in cut.glob("items/kept-*.jsonl"):
        path.write_text(path.read_text().replace('"loss":1', '"loss":2').replace('"loss":0', '"loss":1'))
    status, out, err = resume(started, shutil.copytree(cut, cut.parent / "again" / cut.name))
    assert status == 0, err
    assert result(json.loads(out)) == result(started.record)
    base = cut / "items" / "base.jsonl"
    text = base.read_text()
    digits = [i for i, char in enumerate(text) if char in "12345678"]
    place = random.Random(seed).choice(digits)
    base.write_text(text[:place] + str(int(text[place]) + 1) + text[place + 1 :])
    status, out, err = resume(started, cut)
    assert (status, out) == (2, "")
    assert f"{base}:" in err
    assert "--from generate" in err


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_number_in_a_checkpoint_is_damage(started: Started, cut: Path, seed: int) -> None:
    with closing(sqlite3.connect(cut / "checkpoints.sqlite")) as connection:
        [(name, row)] = connection.execute(
            "select checkpoint_id, checkpoint from checkpoints order by checkpoint_id desc limit 1"
        )
        place = random.Random(seed).randrange(len(row))
        changed = row[:place] + bytes([row[place] ^ 1]) + row[place + 1 :]
        connection.execute("update checkpoints set checkpoint = ? where checkpoint_id = ?", (changed, name))
        connection.commit()
    status, out, err = resume(started, cut)
    assert (status, out) == (2, "")
    assert "checkpoints.sqlite: damaged" in err


def test_another_runs_header_is_refused(started: Started, cut: Path) -> None:
    header = json.loads((cut / "config.json").read_text())
    write_json(cut / "config.json", {**header, "run_id": header["run_id"][:-1] + "x"})
    status, _, err = resume(started, cut)
    assert status == 2
    assert "config.json: missing or damaged" in err


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


@pytest.mark.parametrize(("patience_s", "held_s", "status"), [(20.0, 0.6, 0), (0.2, 3.0, 3)])
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


def test_resume_makes_the_report_that_a_kill_prevented_and_sweeps_what_writers_left(
    started: Started, tmp_path: Path
) -> None:
    folder = shutil.copytree(started.whole, tmp_path / started.whole.name)
    (folder / "report.html").unlink()
    for name in (".run.json.ab12cd34", "items/.base.jsonl.ab12cd34", "items/.kept-0123.jsonl.ef56"):
        (folder / name).write_text("half of")
    (folder / "adapters" / ".adapter.xy").mkdir()
    (folder / "adapters" / ".adapter.xy" / "adapter_config.json").write_text("{}")
    status, out, err = resume(started, folder)
    assert status == 0, err
    assert json.loads(out) == started.record
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in folder.rglob(".*")] == [".lock"]


def test_a_finished_run_keeps_what_its_outcome_and_a_replay_need(started: Started) -> None:
    folder, made = started.whole, started.record["adapters"]
    assert {path.name for path in folder.iterdir()} == {
        *("run.json", "config.json", "trace.jsonl", "checkpoints.sqlite", "strategy.json", "report.html"),
        *("items", "adapters", ".lock"),
    }
    assert {path.name for path in (folder / "adapters").iterdir()} == {
        made["generated"]["sha256"],
        made["aligned"]["sha256"],
    }


@pytest.mark.parametrize("node", ["describe", "generate", "align", "choose", "evaluate", "decide", "apply", "conclude"])
def test_a_finished_run_is_replayed_from_any_step(started: Started, tmp_path: Path, node: str) -> None:
    shutil.copytree(started.whole, tmp_path / started.whole.name)
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = trace.main(["replay", started.whole.name, "--from", node, "--out", str(tmp_path), "--json"])
    assert status == 0, err.getvalue()
    assert result(json.loads(out.getvalue())) == result(started.record)


def test_adapters_that_answer_together_are_kept(tmp_path: Path) -> None:
    store = tmp_path / "adapters"
    for name in ("generated", "first", "second", "rejected"):
        (store / name).mkdir(parents=True)
    for name in ("routes-12.safetensors", "routes-34.safetensors"):
        (store / name).write_text("")

    def ref(name: str) -> AdapterRef:
        return AdapterRef(path=f"adapters/{name}", sha256=name, base_sha256="b", rank=4)

    nothing: Made = {"generated": None, "aligned": None, "variant": None, "saw_task": None, "caveats": [], "reason": ""}
    states: list[State] = [
        {"adapters": {**nothing, "generated": ref("generated")}},
        {"candidate": AdaptedModel(members=(ref("rejected"),))},
        {"best": AdaptedModel(members=(ref("first"), ref("second")), centroids="adapters/routes-12.safetensors")},
    ]
    kept.prune(tmp_path, states)
    assert {path.name for path in store.iterdir()} == {"generated", "first", "second", "routes-12.safetensors"}


def test_output_that_nothing_has_room_for_is_told() -> None:
    command = [sys.executable, "-m", "agent.trace", "list", "--out", "absent"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("error: what was to be written: the disk is full")
    assert done.stderr.count("\n") == 1


def test_an_adapter_that_was_changed_is_written_anew(tmp_path: Path, tiny_model_folder: Path) -> None:
    weights = tiny_pretrained.load(tiny_model_folder).fresh_lora(0)
    folder = Path(save_adapter(tmp_path, weights, "tiny").path)
    file = folder / "adapter_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError):
        load_adapter(folder)
    save_adapter(tmp_path, weights, "tiny")
    assert adapter_sha256(load_adapter(folder)) == folder.name
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
