"""Runs on a user's file that has little to rank: one choice, equal choices, one label."""

from html import unescape
from pathlib import Path
from typing import Any

import pytest

from agent.run import main
from cao.errors import NotApplicableError
from tests.agent.run.tiny_runs import LATENT, TTL, arguments, run, strategies, write_rows

CALIBRATE = {"family": "Calibrate", "prior": "batch", "strength": 1.0, "length": "char"}
CHOICE = {**CALIBRATE, "prior": "choice"}
PLAN = [TTL, CALIBRATE, CHOICE, LATENT]


def rows(*choices: str) -> list[dict[str, Any]]:
    return [{"question": f"Is {n} plus {n} odd?", "choices": list(choices), "answer": 0} for n in range(60)]


def finished(
    table: list[dict[str, Any]], model: Path, folder: Path, capsys: pytest.CaptureFixture[str], profile: str
) -> dict[str, Any]:
    path = write_rows(folder / "odd.jsonl", table)
    argv = arguments(path, model, folder / "runs", strategies(folder, *PLAN), "--until", "budget")
    record = run(capsys, [*argv, "--model", profile, "--max-attempts", "4"])
    assert (folder / "runs" / record["run_id"] / "report.html").exists()
    return record


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (("no",), "'choices' must be a list of 2 to 26 texts"),
        (("no", "no"), "the choice 'no' appears more than once"),
        (("no", " no "), "the choice 'no' appears more than once"),
        (("no", " "), "choice 1 is blank"),
    ],
)
def test_choices_that_cannot_be_told_apart_are_refused_with_their_line(
    choices: tuple[str, ...], words: str, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(tmp_path / "odd.jsonl", [*rows("no", "yes")[:3], *rows(*choices)[3:]])
    assert main(arguments(path, tiny_model_folder, tmp_path / "runs", strategies(tmp_path, LATENT))) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"{path}:4: " in line
    assert words in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("profile", ["qwen2.5-0.5b", "smollm2-135m"])
def test_one_label_for_every_question_is_no_reason_to_stop(
    profile: str, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = finished(rows("no", "yes"), tiny_model_folder, tmp_path, capsys, profile)
    assert len(record["reward"]["rules"]) == 5  # the choices are the same words in every question
    assert [trial["strategy"]["family"] for trial in record["trials"]] == ["TTL", "Calibrate", "Calibrate", "Latent"]
    for trial in record["trials"]:
        assert trial["reward"] or "in use already" in trial["reason"]
    batch = next(row["base"] for row in record["reward"]["rules"] if row["rule"]["prior"] == "batch")
    assert batch["loss"] >= record["reward"]["baseline"]["loss"]  # taking the one true label's mean off helps nobody


def test_choices_of_a_questions_own_leave_out_the_rule_that_needs_labels(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [
        {"question": f"How much is {n} plus {n}?", "choices": [f"{2 * n}", f"{2 * n + 1}", f"{n + 77}"], "answer": 0}
        for n in range(60)
    ]
    record = finished(own, tiny_model_folder, tmp_path, capsys, "smollm2-135m")
    assert [row["rule"]["prior"] for row in record["reward"]["rules"]] == ["none", "none", "choice", "choice"]
    refused = record["trials"][1]
    assert (
        refused["reason"]
        == "not applied: the prior batch needs prompts with choices that are the same words in every question"
    )
    assert refused["reward"] is None


def test_an_answer_that_the_model_cannot_read_is_named_before_anything_is_measured(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = [{"question": f"Can bird {n} fly?", "choices": ["no", "apple " * 2500], "answer": 0} for n in range(60)]
    path = write_rows(tmp_path / "long.jsonl", table)
    assert (
        main(arguments(path, tiny_model_folder, tmp_path, strategies(tmp_path, LATENT), "--model", "smollm2-135m")) == 2
    )
    assert "fly?': an answer is longer than the model's context of 2048 tokens" in capsys.readouterr().err


def test_a_rule_whose_prior_is_not_finite_is_left_out_and_said(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(*_: Any, **__: Any) -> None:
        raise NotApplicableError("the model's output is not finite")

    monkeypatch.setattr("tools.evaluate.choice_prior", diverged)
    record = finished(rows("no", "yes"), tiny_model_folder, tmp_path, capsys, "smollm2-135m")
    for row in record["reward"]["rules"]:
        told = "the deployed model: the model's output is not finite" if row["rule"]["prior"] == "choice" else ""
        assert (row["base"] is None, row["reason"]) == (bool(told), told)
    assert record["trials"][2]["reason"] == "not measured: the model's output is not finite"
    page = unescape((tmp_path / "runs" / record["run_id"] / "report.html").read_text())
    assert "Of 3 answer rules" in page
    assert "Not measured by log p − 1 log p(choice): the deployed model: the model's output is not finite." in page


def test_a_prior_of_labels_is_read_once_in_a_run(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(tmp_path / "odd.jsonl", rows("no", "yes"))
    plan = strategies(tmp_path, {**CALIBRATE, "strength": 0.5}, {**CHOICE, "strength": 0.5})
    argv = arguments(path, tiny_model_folder, tmp_path / "runs", plan, "--until", "budget", "--accept", "any")
    record = run(capsys, [*argv, "--model", "smollm2-135m", "--max-attempts", "2"])
    assert record["test"] is not None
    assert record["reward"]["answer_rules"]["best"]["prior"] != "none"  # so the test part is answered by a prior, too
    kept = [file.name.split("-")[1] for file in (tmp_path / "runs" / record["run_id"] / "items").glob("prior-*")]
    assert sorted(kept) == ["batch", "choice"]  # for the reward and the test part, and for every strength


def test_choices_that_are_read_and_not_scored_are_offered_no_prior(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = arguments(Path("winogrande"), tiny_model_folder, tmp_path / "runs", strategies(tmp_path, CHOICE))
    record = run(capsys, [*argv, "--model", "smollm2-135m", "--max-attempts", "1"])
    assert {row["rule"]["prior"] for row in record["reward"]["rules"]} == {"none"}
    [trial] = record["trials"]
    assert trial["reason"].startswith("not applied: the prior choice needs choices that are scored themselves")
