"""What a run computes in: chosen, recorded, kept on resume on any machine, and named where two runs differ."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent import trace
from agent.loop.request import read_stored
from agent.run import main
from cao.machine import compute
from cao.machine.compute import Rates

SIZES = ["--support", "8", "--reward", "12", "--test", "12", "--max-attempts", "1"]
LATENT = {"family": "Latent", "slot_steps": 2, "slot_lr": 0.05}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    rows = [
        {"question": f"How much is {a} plus {b}?", "choices": [str(a + b), str(a + b + 1)], "answer": 0}
        for a in range(2, 8)
        for b in range(10, 17)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def start(tiny_model_folder: Path, tmp_path: Path, questions: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Starts a run and returns its record; further arguments are added."""
    plan = tmp_path / "plan.jsonl"
    plan.write_text(json.dumps(LATENT) + "\n")
    settings = [f"model_path={tiny_model_folder}", f"policy_settings.strategy_file={plan}", "adapter=none"]
    chosen = ["--model", "qwen2.5-0.5b", "--policy", "fixed", "--offline", "--json"]

    def go(*more: str) -> dict[str, Any]:
        sets = [word for setting in settings for word in ("--set", setting)]
        code = main(["--task", str(questions), "--out", str(tmp_path / "runs"), *SIZES, *chosen, *sets, *more])
        told = capsys.readouterr()
        assert code == 0, told.err
        return dict(json.loads(told.out))

    return go


def machine(monkeypatch: pytest.MonkeyPatch, faster: str) -> None:
    """Be on a machine where one dtype is faster."""
    gain = 4.0 if faster == "bfloat16" else 0.2
    found = Rates(float32=1e9, bfloat16=gain * 1e9, least_gain=gain, noisy=False)
    monkeypatch.setattr(compute, "processor_rates", lambda: found)


@pytest.mark.parametrize("faster", ["float32", "bfloat16"])
def test_the_faster_dtype_is_taken_and_told(
    start: Any, monkeypatch: pytest.MonkeyPatch, faster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, faster)
    record = start()
    found = record["compute"]
    assert (record["dtype"], found["dtype"], found["asked"]) == (faster, faster, "auto")
    assert found["rates"]["float32"] == 1e9
    assert found["processor"]
    assert found["threads"] >= 1
    assert record["config"]["dtype"] == faster  # the same again on any machine
    report = (tmp_path / "runs" / record["run_id"] / "report.html").read_text()
    assert f"Computed in {faster}, chosen automatically" in report
    assert f"--dtype {faster}" in report
    assert trace.main(["show", record["run_id"], "--out", str(tmp_path / "runs"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compute"]["dtype"] == faster


def test_the_same_dtype_gives_the_same_run_and_another_one_another(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "bfloat16")
    losses = [
        start(*more)["test"]["baseline"]["loss"] for more in ((), ("--dtype", "bfloat16"), ("--dtype", "float32"))
    ]
    assert losses[0] == losses[1]
    assert losses[2] != losses[0]
    assert losses[2] == pytest.approx(losses[0], abs=0.05)


def test_a_resumed_run_keeps_its_dtype_on_another_machine(
    start: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, "bfloat16")
    record = start()
    machine(monkeypatch, "float32")
    folder = tmp_path / "runs" / record["run_id"]
    (folder / "run.json").unlink()  # as if a kill had come before it was written
    resume = ["--resume", record["run_id"], "--out", str(tmp_path / "runs"), "--offline", "--json"]
    for more in ((), ("--dtype", "auto")):
        assert main([*resume, *more]) == 0
        again = json.loads(capsys.readouterr().out)
        assert (again["dtype"], again["compute"]["asked"]) == ("bfloat16", "auto")
        assert again["test"] == record["test"]
        (folder / "run.json").unlink()
    assert main([*resume, "--dtype", "float32"]) == 2
    assert "was started with dtype='bfloat16', now it is 'float32'" in capsys.readouterr().err


def test_a_header_with_an_impossible_dtype_is_exit_2(
    start: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = start("--dtype", "float32")
    out = tmp_path / "runs"
    header = read_stored(out, record["run_id"])
    header.config["dtype"] = "float16"
    header.write(out / record["run_id"])
    assert main(["--resume", record["run_id"], "--out", str(out), "--offline"]) == 2
    assert "dtype" in capsys.readouterr().err


def test_trace_diff_names_the_dtype_as_a_cause(start: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [start("--dtype", dtype)["run_id"] for dtype in ("float32", "bfloat16")]
    assert trace.main(["diff", *runs, "--out", str(tmp_path / "runs")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "computed with" in told
    assert "Computed with another dtype" in told
    assert trace.main(["diff", runs[0], runs[0], "--out", str(tmp_path / "runs"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compute"] == {}


def test_a_plan_says_what_this_machine_would_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    totals = {}
    for faster in ("bfloat16", "float32"):
        machine(monkeypatch, faster)
        assert main(["--task", "gsm8k", "--dry-run", "--json", "--offline", "--out", str(tmp_path)]) == 0
        plan = json.loads(capsys.readouterr().out)
        assert plan["compute"]["dtype"] == faster
        totals[faster] = plan["estimated_total_seconds"]
    assert totals["float32"][1] > 2 * totals["bfloat16"][1]  # rates of 1 and 4 GFLOP/s


def test_an_impossible_dtype_is_refused_by_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["--task", "gsm8k", "--dtype", "float16"])
    assert error.value.code == 2
    assert "float32" in capsys.readouterr().err
    assert main(["--task", "gsm8k", "--set", "dtype=float16", "--dry-run"]) == 2
    assert "dtype" in capsys.readouterr().err
