"""Bad input and missing parts: named before anything is computed, and nothing is left behind."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.run import main
from tests.agent.run.tiny_runs import LATENT, SIZES, arguments, lines_but_loading, run, strategies


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"question": "q", "choices": ["a", "b"], "answer": 0}\n{"question": \n', ":2:"),
        ('{"question": "q", "choices": ["a", "b"], "answer": 7}\n', ":1:"),
        ('{"question": "q", "choices": ["a", "b"], "answer": 0}\n', "different questions"),
        ("", "has no questions"),
    ],
)
def test_bad_task_file_is_named_before_anything_is_computed(
    content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    assert main(["--task", str(path), "--out", str(tmp_path / "runs")]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_what_is_missing_is_exit_3(
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: Any,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    argv = arguments(questions, tiny_model_folder, tmp_path / "runs", strategies(tmp_path, LATENT))
    assert main([*argv, "--policy", "openai"]) == 3
    assert main(["--task", "gsm8k", "--set", f"model_path={tmp_path}/absent", "--out", str(tmp_path / "runs")]) == 3
    assert main([*argv, "--device", "cuda:9"]) == 3
    assert main([*argv, "--policy", "oracle"]) == 2
    assert main([*argv, "--describer", "poet"]) == 2
    assert main(["--task", "no_such_task"]) == 2
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "runs").exists()


def test_dry_run_says_what_a_run_lacks(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    argv = ["--task", str(questions), *SIZES, "--policy", "openai", "--dry-run"]
    assert main([*argv, "--out", str(tmp_path)]) == 0
    assert "It cannot start yet: no key for the OpenAI API; run: export OPENAI_API_KEY=…" in capsys.readouterr().out
    assert main([*argv, "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lacks"] == ["no key for the OpenAI API; run: export OPENAI_API_KEY=…"]
    assert main([*argv, "--out", str(questions)]) == 2
    assert f"--out {questions}: is no folder" in capsys.readouterr().err


def test_dry_run_writes_and_computes_nothing(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--task", str(questions), "--out", str(tmp_path / "runs"), *SIZES, "--dry-run", "--json"]
    plan = run(capsys, argv)
    assert plan["splits"] == {"support": 8, "reward": 12, "test": 12}
    assert plan["estimated_total_seconds"][0] < plan["estimated_total_seconds"][1]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "more",
    [
        ["--set", "start_adapter=/nonexistent"],
        ["--set", "policy_settings.base_url=http://user:secret@127.0.0.1/v1"],
        ["--set", "seed=" + "9" * 6000],
        ["--set", "seed=" + "[" * 3000],
        ["--policy", "bogus", "--dry-run"],
        ["--resume", ""],
    ],
)
def test_what_cannot_work_leaves_nothing_behind(
    more: list[str], questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = arguments(questions, tiny_model_folder, tmp_path / "runs", strategies(tmp_path, LATENT))
    assert main([*argv, *more]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert lines_but_loading(captured.err) == 1
    assert "secret" not in captured.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("mode", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--pretrained", "{0}/absent"), "--pretrained {0}/absent: there is no such folder"),
        (("--set", "start_adapter={0}"), "start_adapter {0}: no adapter_config.json"),
        (("--set", 'pool=["{0}"]'), "{0} cannot be a member of pool: no adapter_config.json"),
        (("--set", 'pool=["a",'), "begins like a list, a table or a text; not TOML"),
        (("--model", "{0}/absent"), "there is no such folder or file"),
        (("--policy", "fixed"), "--set policy_settings.strategy_file=FILE"),
    ],
)
def test_what_a_run_would_fail_at_is_named_by_a_dry_run_too(
    mode: tuple[str, ...], given: tuple[str, str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    option, value = given[0], given[1].format(tmp_path)
    assert main(["--task", "gsm8k", "--out", str(tmp_path / "runs"), option, value, *mode]) == 2
    captured = capsys.readouterr()
    assert words.format(tmp_path) in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert not (tmp_path / "runs").exists()


def test_a_folder_without_parts_for_the_model_gives_no_adapter(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ships is not taken in the place of what was named: its generator may know the task."""
    argv = arguments(questions, tiny_model_folder, tmp_path / "runs", strategies(tmp_path, LATENT))
    record = run(capsys, [*argv, "--pretrained", str(tmp_path), "--max-attempts", "1"])
    assert record["adapters"]["generated"] is None
    assert record["adapters"]["reason"].startswith("no trained generator exists for the base model")
