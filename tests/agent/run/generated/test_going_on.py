"""Runs with generated adapters that go on after a kill or from a node, and what is refused or passed over."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from agent.run import main
from cao.model.language_model import LanguageModel
from tests.agent import tiny_pretrained
from tests.agent.run.generated.generated_runs import LATENT, TASK, command
from tests.agent.run.tiny_runs import lines_but_loading, run


@pytest.mark.usefixtures("use")
def test_resume_refuses_other_trained_parts(
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    lm: LanguageModel,
    good: Tensor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = command(questions, tiny_model_folder, tmp_path, [LATENT])
    record = run(capsys, argv)
    tiny_pretrained.shelve(tmp_path / "other", lm, {"full": 0.8 * good}, {"full": ["arc_easy"]})
    (tmp_path / "bare").mkdir()
    for other, words in (("other", "was started with aligner"), ("bare", "now it is none")):
        (tmp_path / "pretrained").unlink()
        (tmp_path / "pretrained").symlink_to(tmp_path / other)
        assert main([*argv, "--resume", record["run_id"]]) == 2
        captured = capsys.readouterr()
        assert words in captured.err
        assert lines_but_loading(captured.err) == 1
        assert captured.out == ""
        with pytest.raises(Exception, match="was started with"):
            replay(tmp_path / "runs", record["run_id"])


def replay(out: Path, run_id: str) -> int:
    from agent.replay.replay import replay as fork

    return fork(out, run_id, "decide")


@pytest.mark.usefixtures("use")
def test_a_replay_goes_on_from_the_measured_start(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = run(capsys, command(questions, tiny_model_folder, tmp_path, [LATENT]))
    assert replay(tmp_path / "runs", record["run_id"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"Start: the {record['reward']['start']} adapter, accuracy" in printed
    [fork] = [path for path in (tmp_path / "runs").iterdir() if path.name != record["run_id"]]
    again = json.loads((fork / "run.json").read_text())
    assert again["reward"] == record["reward"]
    assert again["test"] == record["test"]


@pytest.mark.usefixtures("use")
def test_a_kill_inside_the_first_measurement_goes_on_behind_what_was_measured(
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from agent.loop import answers

    argv = command(questions, tiny_model_folder, tmp_path, [LATENT])
    measure, calls = answers.evaluate, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:  # base.jsonl is written, generated.jsonl is not
            raise KeyboardInterrupt
        return measure(*arguments, **options)

    monkeypatch.setattr(answers, "evaluate", interrupted)
    assert main(argv) == 130
    capsys.readouterr()
    [folder] = (tmp_path / "runs").iterdir()
    assert (folder / "items" / "base.jsonl").exists()
    assert not (folder / "items" / "generated.jsonl").exists()
    resumed, needed = run(capsys, [*argv, "--resume", folder.name]), len(calls) - 2
    undisturbed = run(capsys, argv)
    assert needed == len(calls) - 2 - needed - 1  # the deployed model was not measured again
    assert resumed["reward"] == undisturbed["reward"]
    assert resumed["test"] == undisturbed["test"]


@pytest.mark.usefixtures("use")
def test_a_tampered_generator_is_named_before_anything_is_written(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = command(questions, tiny_model_folder, tmp_path, [LATENT])
    path = shelf.parent / f"generator-without-{TASK}.safetensors"
    kept = path.read_bytes()
    try:
        path.write_bytes(kept[:-9] + bytes([kept[-9] ^ 64]) + kept[-8:])
        assert main(argv) == 2
    finally:
        path.write_bytes(kept)
    captured = capsys.readouterr()
    assert path.name in captured.err
    assert lines_but_loading(captured.err) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("use")
def test_adapters_that_cannot_be_measured_are_named_and_passed_over(
    questions: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from agent.loop import answers
    from cao.errors import NotApplicableError

    measure = answers.evaluate

    def refusing(task: Any, examples: Any, adapted: Any, *rest: Any, **options: Any) -> Any:
        if adapted.members != (None,):
            raise NotApplicableError("the output is not finite")
        return measure(task, examples, adapted, *rest, **options)

    monkeypatch.setattr(answers, "evaluate", refusing)
    record = run(
        capsys, command(questions, tiny_model_folder, tmp_path, ["no strategy", LATENT], "--max-attempts", "1")
    )
    assert record["status"] == "no_improvement"
    assert record["reward"]["start"] == "base"
    assert record["reward"]["generated"] is None
    assert record["adapters"]["generated"] is not None
    assert "the generated adapter could not be measured: the output is not finite" in record["adapters"]["reason"]
    assert (tmp_path / "runs" / record["run_id"] / "adapters").exists()
