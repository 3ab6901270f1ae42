"""Forks: which steps are kept, and that a fork comes to what a run with its configuration comes to."""

import json
import shutil
from pathlib import Path

import pytest

from agent import trace
from agent.replay.changes import plan_fork
from tests.agent.run.tiny_runs import LATENT, MIX, arguments, echo_rows, result, run, strategies, write_rows

pytestmark = pytest.mark.usefixtures("tiny_model_folder")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "echoes.jsonl", echo_rows())


def fork(capsys: pytest.CaptureFixture[str], out: Path, run_id: str, *sets: str) -> tuple[dict[str, object], str]:
    words = [word for text in sets for word in ("--set", text)]
    status = trace.main(["fork", run_id, *words, "--out", str(out), "--json"])
    printed, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(printed), err


def nodes(out: Path, run_id: object) -> list[str]:
    return [json.loads(line)["node"] for line in (out / str(run_id) / "trace.jsonl").read_text().splitlines()]


def test_a_fork_keeps_what_cannot_differ_and_comes_to_what_a_new_run_comes_to(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plan = tmp_path / "runs", strategies(tmp_path, LATENT, LATENT | {"slot_steps": 3})
    one = run(capsys, arguments(questions, tiny_model_folder, out, plan, "--max-attempts", "1"))
    before = (out / one["run_id"] / "run.json").read_bytes()
    kept, told = fork(capsys, out, one["run_id"], "max_attempts=2")
    assert "max_attempts 1 → 2; its steps before decide are kept" in told
    assert nodes(out, kept["run_id"])[0] == "decide"
    header = json.loads((out / str(kept["run_id"]) / "config.json").read_text())
    assert header["replay_of"] == {"run_id": one["run_id"], "node": "decide"}
    whole = run(capsys, arguments(questions, tiny_model_folder, tmp_path / "other", plan, "--max-attempts", "2"))
    assert result(kept) == result(whole)
    assert (out / one["run_id"] / "run.json").read_bytes() == before

    anew, told = fork(capsys, out, one["run_id"], "seed=1", "max_attempts=1", "policy_settings.temperature=0.5")
    assert "seed 0 → 1" in told
    assert "begun anew: a step before decide reads seed" in told
    assert nodes(out, anew["run_id"])[0] == "describe"
    header = json.loads((out / str(anew["run_id"]) / "config.json").read_text())
    assert header["replay_of"] == {"run_id": one["run_id"], "node": "describe"}


@pytest.mark.parametrize(
    ("assignment", "node"),
    [
        ("max_attempts=3", "decide"),
        ("until=budget", "decide"),
        ("policy=random", "decide"),
        ("serving_price=0.1", "decide"),
        ("policy_settings.temperature=0.3", "decide"),
        ("accept=any", "describe"),
        ("reward=8", "describe"),
        ("policy_sees_measurements=false", "describe"),
        ("minutes=9", "describe"),
    ],
)
def test_the_first_step_that_a_key_matters_to(assignment: str, node: str, finished: tuple[Path, str]) -> None:
    out, run_id = finished
    plan, key = plan_fork(out, run_id, [assignment]), assignment.partition("=")[0]
    assert (plan.node, list(plan.changed)) == (node, [key])
    why = "the clock of a time budget starts again" if key == "minutes" else f"a step before decide reads {key}"
    assert plan.anew == ("" if node == "decide" else why)


def test_a_fork_that_begins_anew_asks_for_the_dtype_that_was_asked_for(finished: tuple[Path, str]) -> None:
    out, run_id = finished
    path = out / run_id / "config.json"
    before = path.read_bytes()
    try:
        path.write_text(json.dumps(json.loads(before) | {"dtype_asked": "auto"}))
        assert plan_fork(out, run_id, ["accept=any"]).asked.config.dtype == "auto"
        assert plan_fork(out, run_id, ["accept=any", "dtype=bfloat16"]).asked.config.dtype == "bfloat16"
    finally:
        path.write_bytes(before)


def test_a_description_that_a_model_wrote_is_not_kept_for_another_models_run(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    out, run_id = finished
    shutil.copytree(out, tmp_path / "runs")
    trace_file = tmp_path / "runs" / run_id / "trace.jsonl"
    call = {"seq": 0, "time": "2026-11-28T00:00:00.000Z", "node": "describe", "event": "call", "data": {}}
    trace_file.write_text(json.dumps(call) + "\n" + trace_file.read_text())
    assert plan_fork(tmp_path / "runs", run_id, ["policy_settings.temperature=0.3"]).node == "describe"
    assert plan_fork(tmp_path / "runs", run_id, ["until=budget"]).node == "decide"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> tuple[Path, str]:
    from agent.run import main

    folder = tmp_path_factory.mktemp("forked")
    questions = write_rows(folder / "echoes.jsonl", echo_rows())
    argv = arguments(questions, tiny_model_folder, folder / "runs", strategies(folder, MIX), "--max-attempts", "1")
    assert main(argv) == 0
    [path] = (folder / "runs").iterdir()
    return folder / "runs", path.name


def test_a_changed_file_of_questions_begins_anew(finished: tuple[Path, str]) -> None:
    out, run_id = finished
    questions = out.parent / "echoes.jsonl"
    before = questions.read_text()
    try:
        questions.write_text(before.replace("the bird can fly 3 times", "the bird can fly three times"))
        assert plan_fork(out, run_id, ["max_attempts=2"]).node == "describe"
    finally:
        questions.write_text(before)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [("max_attempts=1", "had these values already"), ("max_attempts=0", "max_attempts"), ("no_key=1", "no_key")],
)
def test_a_fork_that_cannot_be_is_refused_in_a_line(
    assignment: str, message: str, finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, run_id = finished
    assert trace.main(["fork", run_id, "--set", assignment, "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert (message in err, err.count("\n")) == (True, 1)
    assert [path.name for path in out.iterdir()] == [run_id]
