"""Runs that go on: after a kill, after a move, before a node; and what is not resumed."""

import io
import json
import sqlite3
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from agent.run import main
from tests.agent import tiny_pretrained
from tests.agent.killing import killed
from tests.agent.run.tiny_runs import LATENT, MIX, TTL, arguments, lines_but_loading, result, run, strategies

KILL_AT = ["describe", "detect", "generate", "align", "choose", "evaluate", "decide", "apply", "conclude"]


@dataclass
class Undisturbed:
    """A run that nothing disturbed, and how it was started."""

    argv: list[str]
    record: dict[str, Any]


@pytest.fixture(scope="module")
def undisturbed(questions: Path, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    lm = tiny_pretrained.load(tiny_model_folder)
    layout = tiny_pretrained.layout_of(lm)
    index = tiny_pretrained.shelve(
        folder / "pretrained", lm, {"full": torch.zeros(layout.layers, layout.length)}, {"full": ["arc_easy"]}
    )
    plan = strategies(folder, {**TTL, "ttl_steps": 20}, LATENT)
    argv = arguments(questions, tiny_model_folder, folder / "runs", plan, "--max-attempts", "2")
    argv += ["--set", f"pretrained={index.parent}"]
    with redirect_stdout(io.StringIO()) as out:
        assert main(argv) == 0
    return Undisturbed(argv, json.loads(out.getvalue()))


@pytest.mark.slow
@pytest.mark.parametrize("node", KILL_AT)
def test_kill_9_and_resume_gives_the_undisturbed_result(
    node: str,
    undisturbed: Undisturbed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = [*undisturbed.argv, "--out", str(tmp_path / "runs")]

    def begun() -> bool:
        traces = (tmp_path / "runs").glob("*/trace.jsonl")
        return any(f'"{node}", "event": "start"' in trace.read_text() for trace in traces)

    killed(begun, main, argv)
    [folder] = (tmp_path / "runs").iterdir()
    resumed = run(capsys, [*argv, "--resume", folder.name])
    assert resumed["run_id"] == folder.name
    assert resumed["adapters"]["generated"]
    assert resumed["adapters"]["aligned"]
    assert result(resumed) == result(undisturbed.record)


def test_resume_refuses_what_is_not_the_same_run(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = strategies(tmp_path, LATENT)
    out = tmp_path / "runs"
    argv = arguments(questions, tiny_model_folder, out, plan, "--max-attempts", "1")
    record = run(capsys, argv)

    def refused(extra: list[str], words: str) -> None:
        assert main([*argv, *extra]) == 2
        captured = capsys.readouterr()
        assert words in captured.err
        assert lines_but_loading(captured.err) == 1
        assert captured.out == ""

    refused(["--resume", "no-such-run"], "no-such-run")
    refused(["--resume", "../runs"], "run id")
    refused(["--resume", record["run_id"], "--seed", "5"], "seed=0")
    assert (
        run(capsys, ["--out", str(out), "--resume", record["run_id"], "--json", "--offline"])["run_id"]
        == record["run_id"]
    )
    (out / record["run_id"] / "run.json").unlink()
    again = run(capsys, [*argv, "--resume", record["run_id"]])
    assert result(again) == result(record)
    database = out / record["run_id"] / "checkpoints.sqlite"
    database.write_bytes(b"this is no database at all, but long enough to be read as one" * 40)
    refused(["--resume", record["run_id"]], "damaged")
    made = (out / record["run_id"] / "run.json").read_bytes()
    for path in (out / record["run_id"]).glob("checkpoints*"):
        path.unlink()
    refused(["--resume", record["run_id"]], "its checkpoints were pruned: nothing is left to resume")
    assert (out / record["run_id"] / "run.json").read_bytes() == made


def test_tampered_checkpoint_runs_no_code(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = strategies(tmp_path, LATENT)
    argv = arguments(questions, tiny_model_folder, tmp_path / "runs", plan, "--max-attempts", "1")
    record = run(capsys, argv)
    folder = tmp_path / "runs" / record["run_id"]
    mark = tmp_path / "code-ran"
    import ormsgpack

    payload = ormsgpack.packb(ormsgpack.Ext(0, ormsgpack.packb(("pathlib", "Path.touch", [str(mark)]))))
    with sqlite3.connect(folder / "checkpoints.sqlite") as connection:
        connection.execute("update checkpoints set checkpoint = ?, type = 'msgpack'", (payload,))
    code = main([*argv, "--resume", record["run_id"]])
    captured = capsys.readouterr()
    assert code == 2, captured.err
    assert not mark.exists()


def test_replay_forks_before_a_node(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from agent.replay.replay import replay

    out = tmp_path / "runs"
    argv = arguments(questions, tiny_model_folder, out, strategies(tmp_path, LATENT), "--max-attempts", "1")
    record = run(capsys, argv)
    assert replay(out, record["run_id"], "decide") == 0
    [fork] = [path for path in out.iterdir() if path.name != record["run_id"]]
    again = json.loads((fork / "run.json").read_text())
    assert result(again) == result(record)
    trace = [json.loads(line)["node"] for line in (fork / "trace.jsonl").read_text().splitlines()]
    assert "detect" not in trace
    assert trace[0] == "decide"


def test_a_run_goes_on_after_its_folder_was_moved(
    questions: Path, tiny_model_folder: Path, tiny_lm: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cao.model.adapters import save_adapter

    adapter = save_adapter(tmp_path / "store", tiny_lm.fresh_lora(0), "tiny")
    argv = arguments(questions, tiny_model_folder, tmp_path / "runs", strategies(tmp_path, MIX), "--max-attempts", "1")
    record = run(capsys, [*argv, "--set", f"start_adapter={adapter.path}"])
    (tmp_path / "runs").rename(tmp_path / "moved")
    folder = tmp_path / "moved" / record["run_id"]
    (folder / "run.json").unlink()
    with sqlite3.connect(folder / "checkpoints.sqlite") as connection:  # as if killed before the last two steps
        newest = connection.execute("select checkpoint_id from checkpoints order by checkpoint_id desc limit 2")
        for (checkpoint,) in newest.fetchall():
            connection.execute("delete from checkpoints where checkpoint_id = ?", (checkpoint,))
            connection.execute("delete from writes where checkpoint_id = ?", (checkpoint,))
    again = run(capsys, ["--out", str(tmp_path / "moved"), "--resume", record["run_id"], "--json", "--offline"])
    assert result(again) == result(record)


def test_a_finished_run_is_returned_as_it_was(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = arguments(
        questions, tiny_model_folder, tmp_path / "runs", strategies(tmp_path, LATENT), "--max-attempts", "1"
    )
    record = run(capsys, argv)
    assert run(capsys, [*argv, "--resume", record["run_id"]]) == record


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"config": []}', '{"config": {}, "run_id": "x"}', "[" * 100_000, "\x00"]
)
def test_a_damaged_header_is_exit_2(
    content: str, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "some-run"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(content)
    assert main(["--resume", "some-run", "--out", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_replay_from_evaluate_begins_at_the_attempt_that_was_evaluated(
    questions: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from agent.replay.replay import replay

    out = tmp_path / "runs"
    plan = strategies(tmp_path, {"family": "TTS", "num_prompt_batches": 32, "method": "max_confidence"}, LATENT)
    record = run(capsys, arguments(questions, tiny_model_folder, out, plan, "--max-attempts", "2"))
    assert [bool(trial["reward"]) for trial in record["trials"]] == [False, True]
    assert replay(out, record["run_id"], "evaluate") == 0
    [fork] = [path for path in out.iterdir() if path.name != record["run_id"]]
    trace = [json.loads(line) for line in (fork / "trace.jsonl").read_text().splitlines()]
    assert [event["node"] for event in trace if event["event"] == "start"][:2] == ["apply", "evaluate"]
    assert result(json.loads((fork / "run.json").read_text())) == result(record)
