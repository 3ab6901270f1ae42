"""Every command that is printed for a person to type is understood by the command it names, and fits the data."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import export, run, trace
from agent.config import RunConfig, make_config, settings_of
from agent.handover.options import ExportOptions
from agent.record import commands
from agent.record.page.report import write_report
from agent.record.schema import Run, RunRecord
from agent.record.terminal import print_summary
from cao.tasks import get_task
from cao.tasks.splits import split
from eval import score
from tests.agent import run_folders as made

ROWS = 340
SURE = {"p_value": 0.01}
WORSE = {"p_value": 0.01, "adapted": made.side(0.4, 1.4)}
OUTCOMES: dict[str, dict[str, Any]] = {
    "could be chance": {},
    "could be chance, the task is used up": {"available": {"reward": 96, "test": 212}, "splits": {"test": 212}},
    "sure": {"test": SURE},
    "sure, no adapter": {"test": SURE, "adopted": {"strategy": made.TTL, "adapter": None}},
    "worse": {"test": WORSE},
    "worse log-loss": {"test": {**SURE, "loss_change": 3.2, "loss_p_value": 0.99}},
    "none": {"status": "no_improvement"},
    "none, the task is used up": {"status": "no_improvement", "available": {"reward": 96, "test": 212}},
    "none, older": {"status": "no_improvement", "smallest_detectable": None},
    "none, all attempts": {"status": "no_improvement", "smallest_detectable": None, "trials": "100"},
    "no strategy": {"status": "no_improvement", "trials": "1"},
    "no strategy, at random": {"status": "no_improvement", "trials": "1", "policy": "random"},
    "unfinished": {"status": "unfinished", "schema_version": None},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my questions, a9.jsonl"
    rows = [{"question": f"Which is {i}?", "choices": [str(i), str(i + 1)], "answer": 0} for i in range(ROWS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def record(name: str, file: Path, out: Path) -> dict[str, Any]:
    """A run of a user's file, with sizes that leave a few of its questions."""
    found = made.record(name)
    change = dict(OUTCOMES[name])
    asked = {"support": 32, "reward": 96, "test": 200}
    found |= {"task": "my-questions-a9", "run_id": "one", "splits": asked}
    found["available"] = split(get_task(str(file)), **asked, seed=0).available
    settings = {**RunConfig(task="-").model_dump(mode="json")["policy_settings"], "openai_model": "größe “4” 😀"}
    found["config"] |= {"task": str(file), "out": str(out), "minutes": 30.0, "offline": True, "unheard_of": 3}
    found["config"]["policy_settings"] = settings
    found["test"] |= change.pop("test", {})
    found["splits"] = {**asked, **change.pop("splits", {})}
    found["config"] |= found["splits"]
    trials = change.pop("trials", None)
    found["trials"] = found["trials"][:1] if trials == "1" else found["trials"][1:2] * int(trials or 3)
    return {**found, **change}


def runs_of(line: str) -> str:
    """Check one printed command with the real parser, the real data and the real folders; return its module."""
    words = shlex.split(line)
    assert words[:2] == ["python", "-m"]
    module, given = words[2], words[3:]
    if module == "agent.run" and "--resume" not in given:
        assert run.main([*given, "--dry-run", "--json"]) == 0, line
    elif module == "agent.run":
        arguments = run.parser().parse_args(given)
        assert (Path(arguments.out or "runs") / arguments.resume / "run.json").exists(), line
    elif module == "agent.trace":
        assert trace.main(given) == 0, line
    elif module == "agent.export":
        handed = settings_of(ExportOptions, export.parser().parse_args(given), "export", settable=False)
        assert (Path(handed.out) / handed.run / "run.json").exists(), line
        assert not handed.to.exists()
    else:
        assert module == "eval.score", line
        asked = settings_of(score.ScoreOptions, score.parser().parse_args(given), "score")
        assert score.questions_of(asked)[1] == "test"
        assert asked.adapter is not None
        assert asked.adapter.parts[-2:] == ("one", "adapter")
    return module


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.parametrize("folder", ["runs", "my runs/of today"])
def test_every_printed_command_works_as_it_stands(
    name: str, folder: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    found = record(name, file, Path(folder))
    made.write_run(Path(folder), "one", found)
    read = Run.model_validate(found)
    _, following = commands.next_step(read, Path(folder))
    printed = [following, commands.reproduce_command(read), commands.resume_command("one", folder)]
    printed += [commands.trace_command("list", folder), commands.trace_command("show", Path(folder), "one")]
    for line in printed:
        module = runs_of(line)
        takes_out = module != "eval.score"
        assert ("--out" in line) == (takes_out and folder != "runs"), line
    assert str(file) in following or "--resume" in following or "agent.export" in following
    capsys.readouterr()


@pytest.mark.parametrize(
    ("name", "size", "instead"),
    [("could be chance", "--test 212", "--seed 1"), ("none", "--reward 108", "--max-attempts 6")],
)
def test_a_larger_size_is_one_that_the_file_has(name: str, size: str, instead: str, file: Path, tmp_path: Path) -> None:
    read = RunRecord.model_validate(record(name, file, tmp_path))
    step, line = commands.next_step(read, tmp_path)
    assert f"{size} " in line
    assert "--minutes" not in line  # they would cut it again
    used_up = RunRecord.model_validate(record(f"{name}, the task is used up", file, tmp_path))
    other, line = commands.next_step(used_up, tmp_path)
    assert instead in line
    assert other != step


def test_what_to_do_where_no_attempt_was_measured_goes_by_the_reason(file: Path, tmp_path: Path) -> None:
    found = record("none", file, tmp_path)
    found["trials"] = [
        {"attempt": 1, "strategy": made.TTL, "accepted": False, "reason": "not tried: it would take about 481 s"},
    ]
    found["config"] |= {"minutes": 4.0, "reward": 48, "test": 100, "max_attempts": 2}
    told, line = commands.next_step(Run.model_validate(found), tmp_path)
    assert told == "The time had no room for an attempt; give it more."
    assert "--minutes 8.0" in line
    assert not any(size in line for size in ("--reward", "--test", "--max-attempts"))  # the budget had cut them
    found["trials"][0]["reason"] = "rejected: not JSON"
    told, line = commands.next_step(Run.model_validate(found), tmp_path)
    assert (told, "--policy random" in line) == ("No proposal could be measured; let another policy propose.", True)
    found["policy"] = found["config"]["policy"] = "fixed"
    told, line = commands.next_step(Run.model_validate(found), tmp_path)
    assert told.startswith("None of the file's strategies could be measured")
    assert "--policy fixed" in line


def test_a_builtin_tasks_adapter_is_measured_on_its_test_part_alone(tmp_path: Path) -> None:
    found = made.record("one")
    found["test"] |= SURE
    found["config"]["task"] = found["task"] = "boolq"
    told, line = commands.next_step(Run.model_validate(found), tmp_path)
    assert "ordinary PEFT folder" in told
    assert runs_of(line) == "eval.score"
    found["config"]["profile"] = {"answer_style": "letter"}  # which eval.score is not told
    assert "agent.export" in commands.next_step(Run.model_validate(found), tmp_path)[1]


def test_what_a_finished_run_prints_can_be_typed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    out = Path("elsewhere")
    path = made.write_run(out, "one", record("none", file, out))
    print_summary(RunRecord.model_validate_json((path / "run.json").read_bytes()), str(path))
    (line,) = re.findall(r"trace +(python .*?) *│", capsys.readouterr().out)
    assert runs_of(line) == "agent.trace"
    assert "python -m agent.run --task" in write_report(path).read_text()
    capsys.readouterr()


def test_an_empty_folder_says_how_to_start_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace.main(["list", "--out", str(tmp_path)]) == 0
    line = capsys.readouterr().out.split("start one with: ")[1].strip()
    assert run.parser().parse_args(shlex.split(line)[3:]).out == str(tmp_path)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_any_text_of_a_configuration_comes_back_through_the_command_line(text: str) -> None:
    line = commands.run_command_line({"task": "gsm8k", "policy_settings": {"openai_model": text}})
    arguments = run.parser().parse_args(shlex.split(line)[3:])
    assert make_config(None, run.options(arguments), arguments.assignments).policy_settings.openai_model == text


def test_a_table_that_is_absent_by_default_comes_back_through_the_command_line() -> None:
    profile = {"chat": True, "lora_rank": 8, "end_tokens": ["<e>"], "unheard_of": 1}
    config = {"task": "gsm8k", "policy_settings": {"profile": profile}, "profile": {"lora_rank": 4}}
    line = commands.run_command_line(config)
    arguments = run.parser().parse_args(shlex.split(line)[3:])
    settings = make_config(None, run.options(arguments), arguments.assignments)
    assert settings.policy_settings.profile is not None
    given = settings.policy_settings.profile.model_dump(mode="json", exclude_none=True)
    assert given == {key: profile[key] for key in ("chat", "lora_rank", "end_tokens")}
    assert settings.profile.lora_rank == 4
