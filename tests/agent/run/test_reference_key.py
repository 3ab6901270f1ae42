"""What the deployed model is for, as a run's key: drift is judged against it, and without drift nothing is tried."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from agent import trace
from agent.config import RunConfig, make_config
from agent.graph import after_detect
from agent.record import commands
from agent.record.reading import read_run
from agent.record.wording import headline, verdict
from agent.run import main, options, parser

MIX = {"family": "LORA", "lambda": 0.5}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two files of one kind of question: those of the run, and those that the deployed model is for."""
    folder = tmp_path_factory.mktemp("sums")
    found = {}
    pairs = [(a, b) for a in range(2, 17) for b in range(20, 32)]
    random.Random(0).shuffle(pairs)
    for name, drawn in (("new", pairs[:60]), ("deployed", pairs[60:])):
        rows = [
            {"question": f"How much is {a} plus {b}?", "choices": [str(a + b), str(a * b)], "answer": 0}
            for a, b in drawn
        ]
        found[name] = folder / f"{name}.jsonl"
        found[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "strategies.jsonl").write_text(json.dumps(MIX) + "\n")
    return found


def arguments(files: dict[str, Path], model: Path, out: Path, *more: str) -> list[str]:
    plan = files["new"].with_name("strategies.jsonl")
    return [
        *("--task", str(files["new"]), "--out", str(out), "--support", "16", "--reward", "12", "--test", "12"),
        *("--model", "qwen2.5-0.5b", "--set", f"model_path={model}", "--policy", "fixed", "--max-attempts", "1"),
        *("--set", f"policy_settings.strategy_file={plan}", "--adapter", "none", "--offline", *more),
    ]


def run(capsys: pytest.CaptureFixture[str], argv: list[str]) -> dict[str, Any]:
    assert main([*argv, "--json"]) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


def test_no_drift_from_what_the_model_is_for_ends_the_run_with_that_word(
    files: dict[str, Path], tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = arguments(files, tiny_model_folder, tmp_path, "--reference", str(files["deployed"]))
    assert main(argv) == 0
    told = capsys.readouterr()
    assert "nothing is to be adapted to" in told.err
    assert "No drift. No drift: cannot be told from deployed" in " ".join(told.out.split())
    (folder,) = tmp_path.iterdir()
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["drift"]["kind"]) == ("no_improvement", "none")
    assert record["reason"] == record["drift"]["sentence"]
    assert record["drift"]["current"] == ["deployed"]
    assert (record["trials"], record["adopted"], record["reward"]["baseline"]) == ([], None, None)
    assert record["test"]["baseline"] == record["test"]["adapted"]
    assert set(record["timing_s"]) == {"describe", "detect", "conclude"}
    found = read_run(folder)
    assert headline(found) == "No drift"
    assert "Nothing was tried; the deployed model is left as it was, whose test accuracy is" in verdict(found)
    html = (folder / "report.html").read_text()
    assert "Compared with what the deployed model is for: deployed." in html
    assert "not been measured yet" not in html
    _, line = commands.next_step(found, tmp_path)
    assert "when_no_drift=" in line
    assert f"--reference {files['deployed']}" in line
    for verb in ("list", "show"):
        assert trace.main([verb, *([folder.name] if verb == "show" else []), "--out", str(tmp_path)]) == 0
    assert main(["--resume", folder.name, "--out", str(tmp_path), "--json"]) == 0


def test_without_drift_a_run_goes_on_where_it_is_told_to(
    files: dict[str, Path], tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--reference", str(files["deployed"]), "--set", "when_no_drift=go_on")
    record = run(capsys, arguments(files, tiny_model_folder, tmp_path, *more))
    assert (record["drift"]["kind"], record["reason"], len(record["trials"])) == ("none", None, 1)
    assert "It went on all the same" in (tmp_path / record["run_id"] / "report.html").read_text()


def test_drift_is_judged_against_the_reference_and_leads_on(
    files: dict[str, Path], tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run(capsys, arguments(files, tiny_model_folder, tmp_path, "--reference", "boolq,piqa", "winogrande"))
    assert record["drift"]["current"] == ["boolq", "piqa", "winogrande"]
    assert (record["drift"]["drifted"], record["reason"], len(record["trials"])) == (True, None, 1)
    plain = run(capsys, arguments(files, tiny_model_folder, tmp_path))
    assert len(plain["drift"]["current"]) >= 6
    assert plain["reason"] is None
    html = (tmp_path / plain["run_id"] / "report.html").read_text()
    assert "Compared with every registered task (arc_challenge, " in html
    assert "the run was not told what the deployed model is for (--reference)" in html


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--reference", "gsm8k,piqa", "boolq"], ["gsm8k", "piqa", "boolq"]),
        (["--reference", "a, b.jsonl"], ["{here}/a, b.jsonl"]),
        (["--set", "reference=gsm8k, piqa"], ["gsm8k", "piqa"]),
        (["--set", 'reference=["gsm8k", "my/own.jsonl"]'], ["gsm8k", "{here}/my/own.jsonl"]),
        ([], []),
    ],
)
def test_a_reference_is_given_as_names_or_files(
    given: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parsed = parser().parse_args(["--task", "gsm8k", *given])
    config = make_config(None, options(parsed), parsed.assignments)
    assert config.reference == [source.format(here=tmp_path) for source in expected]
    line = commands.run_command_line(config.model_dump(mode="json"))
    assert ("--reference" in line) == bool(expected)


def test_a_reference_may_stand_in_a_file_of_settings(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('task = "gsm8k"\nreference = ["piqa"]\nwhen_no_drift = "go_on"\n')
    config = make_config(tmp_path / "c.toml", {}, [])
    assert (config.reference, config.when_no_drift) == (["piqa"], "go_on")


@pytest.mark.parametrize("reference", ["no_such_task", "absent.jsonl"])
def test_an_unknown_reference_is_bad_input_before_anything_is_loaded(
    reference: str, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(files, tmp_path / "no model", tmp_path / "runs", "--reference", reference)) == 2
    assert reference in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_changed_reference_is_another_run(files: dict[str, Path]) -> None:
    plain = RunConfig(task="gsm8k")
    assert "reference" not in plain.fingerprint()  # runs of versions without it go on
    told = RunConfig(task="gsm8k", reference=[str(files["deployed"])])
    assert told.fingerprint()["reference"] == [str(files["deployed"])]
    assert f"reference {files['deployed']}_sha256" in told.fingerprint()


def test_only_a_run_that_has_ended_skips_what_is_behind_the_drift_test() -> None:
    assert [after_detect(state) for state in ({}, {"ended": ""}, {"ended": "no drift"})] == [  # type: ignore[arg-type]
        "generate", "generate", "conclude",
    ]  # fmt: skip


def test_an_ended_run_that_was_killed_says_why_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    event = {"node": "detect", "event": "end", "seconds": 1.0, "data": {"ended": "no drift: all as it was"}}
    (folder / "trace.jsonl").write_text(json.dumps(event) + "\n")
    assert read_run(folder).reason == "no drift: all as it was"
