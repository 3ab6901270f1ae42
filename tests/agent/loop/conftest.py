"""What the tests of this folder share."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.agent import tiny_pretrained
from tests.agent.loop.started_runs import Started, command, terminate_at
from tests.agent.run.tiny_runs import LATENT, SIZES, TTL, TTS, strategies


@pytest.fixture(scope="session")
def shelf(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lm = tiny_pretrained.load(tiny_model_folder)
    layout = tiny_pretrained.layout_of(lm)
    centres = {"full": torch.zeros(layout.layers, layout.length)}
    return tiny_pretrained.shelve(tmp_path_factory.mktemp("shelf"), lm, centres, {"full": ["arc_easy"]}).parent


@pytest.fixture(scope="session")
def started(shelf: Path, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Started:
    folder = tmp_path_factory.mktemp("started")
    rows = [
        {"question": f"How much is {a} plus 7?", "choices": [str(a + 7), str(a + 8)], "answer": 0} for a in range(60)
    ]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = strategies(folder, {**TTL, "ttl_steps": 60, "learning_rate": 1e-7}, TTS, LATENT)
    argv = ["--task", str(folder / "sums.jsonl"), *SIZES, "--model", "qwen2.5-0.5b", "--policy", "fixed", "--offline"]
    argv += ["--set", f"model_path={tiny_model_folder}", "--set", f"policy_settings.strategy_file={plan}"]
    argv += ["--max-attempts", "3", "--json", "--pretrained", str(shelf)]
    status, out, err = command(argv, "--out", str(folder / "whole"))
    assert status == 0, err
    waiting = terminate_at("apply", folder / "cut")
    status, _, told = command(argv, "--out", str(folder / "cut"))
    waiting.join()
    record = json.loads(out)
    assert [bool(trial["reward"]) for trial in record["trials"]] == [True, True, True], "each family was measured"
    [cut] = (folder / "cut").iterdir()
    return Started(argv, record, folder / "whole" / record["run_id"], cut, told, status)


@pytest.fixture
def cut(started: Started, tmp_path: Path) -> Path:
    """A copy of the interrupted run."""
    return shutil.copytree(started.cut, tmp_path / "runs" / started.cut.name)
