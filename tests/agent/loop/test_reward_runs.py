"""Racing in whole runs: the same verdicts, the same result after a kill, and what people are told."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.record import wording
from agent.record.events import evaluations_text
from agent.record.page.report import write_report
from agent.record.schema import Run, RunRecord
from agent.run import main
from agent.trace import main as trace
from tests.agent import run_folders as made
from tests.agent.killing import killed
from tests.agent.run.tiny_runs import arguments, result, run, strategies
from tools.evaluate import load_items


def raced_run(run_id: str) -> dict[str, Any]:
    record = made.record(run_id)
    record["trials"][1] |= {
        "reason": "dropped after 24 of 96 questions: accuracy -4.2 points, log-loss +0.1020; hardly low enough",
        "dropped_after": 24,
        "reward": made.reward(0.25, 1.9, 24),
        "comparison": made.comparison(-0.0417, 0.1020, 0.99, False),
    }
    counts = {"asked": 288, "answered": 216, "saved": 72, "dropped_early": 1, "reused": 24, "checked": 1, "agreed": 1}
    record["evaluations"] = counts
    return record


def test_people_are_told_what_was_dropped_and_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = made.write_run(tmp_path, "one", raced_run("one"))
    assert trace(["show", "one", "--out", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    told = (
        "216 of 288 reward questions were answered, 25 % saved; 1 attempt dropped early. Full evaluation agrees about "
        "1 of 1 dropped. 24 answers came from kept scores or hidden states, without a forward pass."
    )
    assert told in shown
    assert "dropped after 24 of 96 questions" in shown
    html = write_report(path).read_text(encoding="utf-8")
    assert told in html
    assert "25.0 % of 24" in html
    assert "2: Latent(slot_steps=5, slot_lr=0.1), dropped: 41.66 %" in html  # the start's 45.83 % and its change
    record = RunRecord.model_validate(raced_run("one"))
    by_two = raced_run("two")
    by_two["trials"][1]["dropped_members"] = 2
    by_two["evaluations"] |= {"answered": 288, "saved": 0, "member_answers": 408, "member_answers_saved": 392}
    assert "25.0 % of 24, 2 adapters" in write_report(made.write_run(tmp_path, "two", by_two)).read_text("utf-8")
    assert evaluations_text(RunRecord.model_validate(by_two)).startswith(
        "All 288 reward questions of the measurements were answered; 1 attempt dropped early. Adapter by adapter it "
        "was 408 of 800 answers, 49 % saved."
    )
    known = raced_run("three")
    known["evaluations"] |= {"dropped_early": 0}
    told = "216 of 288 reward questions were answered, 25 % saved by what was known already;"
    assert evaluations_text(RunRecord.model_validate(known)).startswith(told)
    assert [wording.outcome(trial) for trial in record.trials] == ["no strategy", "dropped", "accepted"]
    assert evaluations_text(Run(run_id="old")) == ""


HARMFUL = {"family": "Latent", "slot_steps": 20, "slot_lr": 1.0}
GENTLE = {"family": "Latent", "slot_steps": 1, "slot_lr": 1e-5}


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {"question": f"How much is {a} plus {b}?", "choices": [str(a + b), str(a + b + 1), str(a * b)], "answer": 0}
        for a in range(2, 12)
        for b in range(10, 20)
    ]
    path = tmp_path_factory.mktemp("task") / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


MORE = ("--max-attempts", "2", "--reward", "72", "--set", "threads=1")


def test_racing_and_full_evaluation_come_to_the_same_verdicts(
    sums: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = arguments(sums, tiny_model_folder, tmp_path / "runs", strategies(tmp_path, HARMFUL, GENTLE), *MORE)
    raced, full = run(capsys, argv), run(capsys, [*argv, "--set", "racing=false"])
    assert raced["evaluations"]["dropped_early"] >= 1
    assert raced["evaluations"]["asked"] == full["evaluations"]["asked"] == full["evaluations"]["answered"] == 3 * 72
    assert raced["status"] == full["status"]
    answered = 72
    for attempt, (one, other) in enumerate(zip(raced["trials"], full["trials"], strict=True), 1):
        assert one["accepted"] == other["accepted"]
        few, all_of_them = (
            load_items(tmp_path / "runs" / record["run_id"] / "items" / f"attempt-{attempt}.jsonl")
            for record in (raced, full)
        )
        assert few == all_of_them[: len(few)]
        assert one["reward"]["n"] == len(few) == (one["dropped_after"] or 72)
        answered += len(few)
    assert raced["evaluations"]["answered"] == answered
    assert raced["trials"][0]["reason"].startswith(f"dropped after {raced['trials'][0]['dropped_after']} of 72")
    assert raced["evaluations"]["reused"] == raced["evaluations"]["answered"] - 72  # Latent changes no adapter
    assert raced["overhead_share"] <= 1


@pytest.mark.slow
def test_kill_9_between_two_blocks_and_resume_gives_the_undisturbed_result(
    sums: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = arguments(sums, tiny_model_folder, tmp_path / "runs", strategies(tmp_path, HARMFUL, GENTLE), *MORE)
    killed(lambda: any((tmp_path / "runs").glob("*/items/kept-*.jsonl")), main, argv)
    [folder] = (tmp_path / "runs").iterdir()
    [kept] = folder.glob("items/kept-*.jsonl")
    before = kept.read_text()
    resumed = run(capsys, [*argv, "--resume", folder.name])
    assert kept.read_text().startswith(before)
    assert result(resumed) == result(run(capsys, argv))
