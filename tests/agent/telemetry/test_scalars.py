"""Curves of runs and trainings, and the files that TensorBoard reads back."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from agent import trace
from agent.record.reading import read_run
from agent.record.trace_file import read_trace
from agent.telemetry.scalars import of_run, of_training
from agent.train.policy.rest_em import Sample, SampleLog
from cao.errors import InputError
from tests.agent import run_folders as made


def consolidation(folder: Path) -> Path:
    place = folder / "consolidate-tiny" / "variants" / "full"
    place.mkdir(parents=True)
    (place / "generator-losses.json").write_text("[[0.5, 2.5], [0.25, 2.0]]")
    (place / "aligner-losses.json").write_text("[[1.5, 0.125]]")
    return place.parents[1]


def policy_training(folder: Path) -> Path:
    place = folder / "policy-tiny"
    place.mkdir()
    log = SampleLog(place / "samples.jsonl")
    for iteration, number, valid, reward in ((0, 0, True, 1), (0, 1, False, 0), (1, 0, True, 1)):
        sample: dict[str, Any] = {"iteration": iteration, "number": number, "valid": valid, "reward": reward}
        log.add(Sample(situation="boolq", raw="{}", strategy=None, judged=None, **sample))
    (place / "fine-tuning-1-losses.json").write_text("[1.25, 1.0, 0.5]")
    return place


def test_a_runs_curves_are_its_rewards_and_its_times(tmp_path: Path) -> None:
    folder = made.write_run(tmp_path, "a-run")
    run, curves = read_run(folder), of_run(read_trace(folder))
    measured = {0: run.reward.baseline, **{t.attempt: t.reward for t in run.trials if t.dropped_after is None}}
    wanted = [(step, reward.score) for step, reward in measured.items() if reward]
    assert len(wanted) > 1
    assert [(point.step, point.value) for point in curves["reward/accuracy"]] == wanted
    assert [point.value for point in curves["attempt/accepted"]] == [float(trial.accepted) for trial in run.trials]
    visits = [event["seconds"] for event in read_trace(folder) if event["event"] == "end" and event["node"] == "decide"]
    assert [point.value for point in curves["seconds/decide"]] == visits
    assert [point.step for point in curves["seconds/decide"]] == [1, 2, 3]


def test_a_trainings_curves_are_its_losses_and_samples(tmp_path: Path) -> None:
    [(name, curves)] = of_training(consolidation(tmp_path))
    assert name == "full"
    assert [point.value for point in curves["generator/reconstruction"]] == [0.5, 0.25]
    assert [point.value for point in curves["generator/answers"]] == [2.5, 2.0]
    assert [point.value for point in curves["aligner/kl"]] == [0.125]
    [(name, curves)] = of_training(policy_training(tmp_path))
    assert name == ""
    assert [point[:2] for point in curves["fine-tuning/1"]] == [(1, 1.25), (2, 1.0), (3, 0.5)]
    assert [point[:2] for point in curves["samples/improve"]] == [(0, 0.5), (1, 1.0)]
    assert [point[:2] for point in curves["samples/valid"]] == [(0, 0.5), (1, 1.0)]


def test_a_sample_under_way_is_left_alone_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    file = policy_training(tmp_path) / "samples.jsonl"
    with file.open("a") as stream:
        stream.write('{"iteration": 1, "num')
    before = file.read_bytes()
    [(_, curves)] = of_training(file.parent)
    assert len(curves["samples/valid"]) == 2
    assert file.read_bytes() == before
    file.write_bytes(before + b"\n")
    with pytest.raises(InputError, match=r"samples\.jsonl:4: no sample"):
        list(of_training(file.parent))


@pytest.mark.parametrize("text", ["[[1.0]]", "{", '[["a", 1.0]]'])
def test_a_damaged_file_of_losses_is_named(tmp_path: Path, text: str) -> None:
    folder = consolidation(tmp_path)
    (folder / "variants/full/aligner-losses.json").write_text(text)
    with pytest.raises(InputError, match=r"aligner-losses\.json: damaged"):
        list(of_training(folder))


def test_tensorboard_reads_back_what_was_written_and_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    made.write_run(tmp_path / "runs", "a-run")
    trained, place = consolidation(tmp_path), tmp_path / "board"
    argv = ["tensorboard", "a-run", str(trained), "--out", str(tmp_path / "runs"), "--to", str(place), "--json"]
    for _ in range(2):  # the second takes the first one's place
        assert trace.main(argv) == 0
        written = json.loads(capsys.readouterr().out)["points"]
    curves = {"a-run": of_run(read_trace(tmp_path / "runs/a-run"))}
    curves |= {f"{trained.name}/{name}": drawn for name, drawn in of_training(trained)}
    assert written == {name: sum(map(len, drawn.values())) for name, drawn in curves.items()}
    for name, drawn in curves.items():
        read = accumulator.EventAccumulator(str(place / name)).Reload()
        assert sorted(read.Tags()["scalars"]) == sorted(drawn)
        for tag, points in drawn.items():
            found = [(event.step, event.value) for event in read.Scalars(tag)]
            assert found == [(point.step, pytest.approx(point.value)) for point in points]
    [first, *_] = accumulator.EventAccumulator(str(place / "a-run")).Reload().Scalars("reward/accuracy")
    assert first.wall_time == curves["a-run"]["reward/accuracy"][0].time


def test_what_is_neither_a_run_nor_a_training_and_a_missing_package_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["tensorboard", "a-run", "--out", str(tmp_path), "--to", str(tmp_path / "board")]
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert trace.main(argv) == 3
    assert "-e '.[tensorboard]'" in capsys.readouterr().err
    monkeypatch.undo()
    pytest.importorskip("tensorboard")
    assert trace.main(argv) == 2
    assert "no run 'a-run'" in capsys.readouterr().err
    assert not (tmp_path / "board").exists()
