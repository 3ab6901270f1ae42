"""Prompts without answers: what can be done is done, nothing is claimed, and what is missing is said."""

import json
from pathlib import Path

import pytest

from agent.run import main
from agent.trace import main as trace
from cao.errors import InputError
from eval.options import ScoreOptions
from eval.score import questions_of
from tests.agent.run.tiny_runs import MIX, arguments, echo_rows, run, strategies, write_rows


def test_prompts_alone_are_run_to_an_honest_end(
    tmp_path: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": f"Does the bird fly {n} times?", "choices": ["yes", "no"], "id": n} for n in range(12)]
    path = write_rows(tmp_path / "prompts.jsonl", rows)
    plan = strategies(tmp_path, MIX)
    assert main(arguments(path, tiny_model_folder, tmp_path, plan)) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert (record["status"], record["test"], record["adopted"], record["trials"]) == ("no_improvement", None, None, [])
    assert record["splits"] == {"support": 8, "reward": 0, "test": 0}
    assert record["drift"]["p_value"] is not None
    assert "no answers are known" in record["missing"][0]
    assert record["data"]["ignored"] == ["id"]
    found = record["unjudged"]
    assert set(found["prior"]) == {" A", " B"}  # this model is asked by letters
    assert (found["answer_rule"]["prior"], found["prompts"]) == ("batch", 8)
    assert "no answers are known" in captured.err
    assert "JSONL: 12 questions of 12 rows; question=question, choices=choices; answers: none" in captured.err

    folder = tmp_path / record["run_id"]
    page = (folder / "report.html").read_text()
    assert "Not judged" in page
    assert "Missing: no answers are known" in page
    assert json.loads((folder / "strategy.json").read_text()) is None
    assert trace(["show", record["run_id"], "--out", str(tmp_path)]) == 0
    assert "Not judged" in capsys.readouterr().out
    resumed = [*arguments(path, tiny_model_folder, tmp_path, plan), "--resume", record["run_id"]]
    assert main(resumed) == 0


def test_free_prompts_have_no_rule_and_it_is_said_why(
    tmp_path: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"How many birds fly at {n}?\n" for n in range(12)))
    plan = strategies(tmp_path, MIX)
    assert main([*arguments(path, tiny_model_folder, tmp_path, plan), "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["max_attempts"] == 0
    assert "each attempt" not in planned["estimated_seconds"]
    record = run(capsys, arguments(path, tiny_model_folder, tmp_path, plan))
    assert record["unjudged"]["answer_rule"] is None
    assert "the same words" in record["unjudged"]["reason"]


def test_nothing_is_scored_without_answers(tmp_path: Path) -> None:
    rows = [{key: row[key] for key in ("question", "choices")} for row in echo_rows()]
    with pytest.raises(InputError, match="no answers are known"):
        questions_of(ScoreOptions(task=str(write_rows(tmp_path / "t.jsonl", rows))))


def test_a_plan_shows_how_a_file_is_read_and_which_sizes_fit_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Question,A,B,Key\n" + "".join(f"Does {n} fly?,yes,no,A\n" for n in range(70)))
    refused = main(["--task", str(path), "--dry-run"])
    assert refused == 0
    shown = capsys.readouterr().out
    assert "question=Question, choices=A+B" in " ".join(shown.split()).replace("│ │ ", "")
    assert main(["--task", str(path), "--map", "answer=Key", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["splits"] == {"support": 10, "reward": 30, "test": 30}
    assert plan["data"]["keys"] == {"question": "Question", "choices": "A+B", "answer": "Key"}
    assert main(["--task", str(path), "--map", "answer=Key", "--test", "60", "--dry-run"]) == 2
    assert "70 different questions; 92 are needed at least (8 support, 24 reward, 60 test)" in capsys.readouterr().err
