"""What a finished run keeps: small, and enough for its outcome and a replay."""

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import session, trace
from agent.loop import kept
from agent.loop.state import Made, State
from agent.record.reading import read_record
from agent.record.terminal import print_summary
from cao.files import SUMS
from cao.types import AdaptedModel, AdapterRef
from tests.agent.loop.started_runs import Started, resume
from tests.agent.run.tiny_runs import result


def test_resume_makes_the_report_that_a_kill_prevented_and_sweeps_what_writers_left(
    started: Started, tmp_path: Path
) -> None:
    folder = shutil.copytree(started.whole, tmp_path / started.whole.name)
    (folder / "report.html").unlink()
    for name in (
        ".run.json.ab12cd34",
        "items/.base.jsonl.ab12cd34",
        "items/.kept-0123.jsonl.ef56",
        "adapters/.adapter",
    ):
        left = folder / f"{name}.unfinished"
        left.mkdir()
        (left / "whole").write_text("half of")
    status, out, err = resume(started, folder)
    assert status == 0, err
    assert json.loads(out) == started.record
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in folder.rglob(".*")] == [".lock"]


def test_a_finished_run_keeps_what_its_outcome_and_a_replay_need(started: Started) -> None:
    folder, made = started.whole, started.record["adapters"]
    assert {path.name for path in folder.iterdir()} == {
        *("run.json", "config.json", "trace.jsonl", "checkpoints.sqlite", "strategy.json", "report.html"),
        *("items", "adapters", "answering.json", "drift.json", "SHA256SUMS", ".lock"),
    }
    assert {path.name for path in (folder / "adapters").iterdir()} == {
        made["generated"]["sha256"],
        made["aligned"]["sha256"],
    }


@pytest.mark.parametrize("node", ["describe", "generate", "align", "choose", "evaluate", "decide", "apply", "conclude"])
def test_a_finished_run_is_replayed_from_any_step(started: Started, tmp_path: Path, node: str) -> None:
    shutil.copytree(started.whole, tmp_path / started.whole.name)
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = trace.main(["replay", started.whole.name, "--from", node, "--out", str(tmp_path), "--json"])
    assert status == 0, err.getvalue()
    assert result(json.loads(out.getvalue())) == result(started.record)


def test_what_is_damaged_is_made_again_as_the_refusal_says(started: Started, cut: Path) -> None:
    """Of a run that was interrupted: a finished one has SHA256SUMS, and is refused as a whole."""
    adapter = cut / "adapters" / started.record["adapters"]["generated"]["sha256"] / "adapter_model.safetensors"
    for file in (cut / "items" / "base.jsonl", adapter):
        content = file.read_bytes()
        file.write_bytes(content[:-9] + b"x" * 9)
        status, _, told = resume(started, cut)
        assert (status, f"replay {cut.name} --from generate" in told) == (2, True), told
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            again = trace.main(["replay", cut.name, "--from", "generate", "--out", str(cut.parent), "--json"])
        assert again == 0, err.getvalue()
        assert result(json.loads(out.getvalue())) == result(started.record)
        file.write_bytes(content)


def test_adapters_that_answer_together_are_kept(tmp_path: Path) -> None:
    store = tmp_path / "adapters"
    for name in ("generated", "first", "second", "rejected"):
        (store / name).mkdir(parents=True)
    for name in ("routes-12.safetensors", "routes-34.safetensors"):
        (store / name).write_text("")

    def ref(name: str) -> AdapterRef:
        return AdapterRef(path=f"adapters/{name}", sha256=name, base_sha256="b", rank=4)

    nothing: Made = {"generated": None, "aligned": None, "variant": None, "saw_task": None, "caveats": [], "reason": ""}
    states: list[State] = [
        {"adapters": {**nothing, "generated": ref("generated")}},
        {"candidate": AdaptedModel(members=(ref("rejected"),))},
        {"best": AdaptedModel(members=(ref("first"), ref("second")), centroids="adapters/routes-12.safetensors")},
    ]
    kept.prune(tmp_path, states)
    assert {path.name for path in store.iterdir()} == {"generated", "first", "second", "routes-12.safetensors"}


def test_every_model_on_the_way_to_the_best_is_kept(tmp_path: Path) -> None:
    def model(name: str) -> AdaptedModel:
        return AdaptedModel(members=(AdapterRef(path=f"adapters/{name}", sha256=name, base_sha256="b", rank=4),))

    for name in ("carried", "start", "first", "second", "refused"):
        (tmp_path / "adapters" / name).mkdir(parents=True)
    state: State = {"base": model("carried"), "started": model("start"), "steps": [model("first"), model("second")]}
    kept.prune(tmp_path, [{**state, "best": model("second")}])
    left = {path.name for path in (tmp_path / "adapters").iterdir()}
    assert left == {"carried", "start", "first", "second"}  # a replay from ``conclude`` answers the test part by each


def test_an_outcome_that_is_written_again_claims_no_share_for_a_process_that_ran_no_step(
    started: Started, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(started.whole, tmp_path / started.whole.name)
    assert 0 < started.record["overhead_share"] < 1
    (folder / "run.json").unlink()
    status, out, err = resume(started, folder)
    assert status == 0, err
    assert json.loads(out)["overhead_share"] is None
    assert "checkpoints and the trace took" not in (folder / "report.html").read_text(encoding="utf-8")
    print_summary(read_record(folder), str(folder))
    shown = capsys.readouterr().out
    assert "checkpoints and trace" not in shown
    assert "peak memory" in shown


def test_a_kill_before_the_new_outcome_leaves_no_hashes_of_the_old_one(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(started.whole, tmp_path / started.whole.name)
    (folder / "run.json").unlink()
    seen = []

    def killed(path: Path, value: object) -> None:
        seen.append((path.name, (folder / SUMS).exists(), (folder / "report.html").exists()))
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "write_json", killed)
    assert resume(started, folder)[0] == 130
    assert seen == [("run.json", False, False)]


@pytest.mark.parametrize(("system", "held"), [("darwin", 3 * 1024**2), ("linux", 3 * 1024)])
def test_peak_memory_is_in_mb_on_each_system(monkeypatch: pytest.MonkeyPatch, system: str, held: int) -> None:
    monkeypatch.setattr(session.sys, "platform", system)
    monkeypatch.setattr(session.resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=held))
    assert session.peak_memory_mb() == 3
