"""What a server is built from: the base model and what runs left."""

import shutil
from pathlib import Path

import pytest

from agent.server.building import make_site
from agent.server.roster import places
from tests.agent.run.tiny_runs import LATENT, arguments, run, strategies, write_rows
from tests.agent.server.running_site import options


def test_a_run_that_adopted_nothing_is_served_and_said_whatever_its_folder_is_called(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": f"How much is {n} plus 1?", "choices": [f"{n + 1}", f"{n}"], "answer": 0} for n in range(60)]
    plan = strategies(tmp_path, {**LATENT, "slot_lr": 1e-5})
    argv = arguments(write_rows(tmp_path / "sums.jsonl", rows), tiny_model_folder, tmp_path / "runs", plan)
    record = run(capsys, [*argv, "--adapter", "none", "--max-attempts", "1"])
    assert record["status"] == "no_improvement"
    renamed = tmp_path / "renamed"
    shutil.copytree(tmp_path / "runs" / record["run_id"], renamed)
    chosen = options(tiny_model_folder, tmp_path / "served", adopted=[f"sums={renamed}"])
    site = make_site(chosen, places(chosen), "")
    site.stop()
    assert site.roster.names == ["base", "auto", "sums"]
    assert "sums: its run adopted nothing, so it answers as base does\n" in capsys.readouterr().err
