"""The table of policies: its arithmetic by hand, and all of it on a tiny random model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.train.policy import situations as situations_module
from eval.policies.verdicts import Picks, judge, sign_flips, table, versus
from eval.tables import main
from tests.agent.tiny_policy_training import call, judging, measured, train

pytestmark = pytest.mark.slow

TASKS, SEEDS = ["a", "b"], [0, 1]


def cell(first: tuple[int, int], gain: float = 0.0, attempts: int = 4) -> dict[str, Any]:
    return {
        "first": list(first),
        "improved": gain < 0,
        "attempts": attempts,
        "adopted": None,
        "reward": [0.1, gain],
        "test": [0.0, gain / 2],
    }


def result(**rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = [f"{task}-{seed}" for task in TASKS for seed in SEEDS]
    return {"seeds": SEEDS, "cells": {row: dict(zip(names, cells, strict=False)) for row, cells in rows.items()}}


# arithmetic ----------------------------------------------------------------------------------------------------------


def test_means_by_hand() -> None:
    """First attempts 1/4, 3/4 | 0, 1 → .5; twice the .25 of random; log-loss (−.2 − .4) / 4."""
    mine = [cell((1, 4), -0.2, 1), cell((3, 4)), cell((0, 4), -0.4, 3), cell((4, 4))]
    random = [cell((1, 4))] * 4
    found = judge(result(mine=mine, random=random), TASKS)
    assert found["mine"]["first"]["mean"] == 0.5
    assert found["mine"]["against_random"]["ratio"] == 2.0
    assert found["mine"]["against_random"]["difference"] == 0.25
    assert found["mine"]["reward_loss"]["mean"] == pytest.approx(-0.15)
    assert found["mine"]["test_loss"]["mean"] == pytest.approx(-0.075)
    assert found["mine"]["attempts"]["mean"] == 3.0
    assert found["mine"]["improved"]["mean"] == 0.5
    assert found["random"]["against_random"] is None
    low, high = found["mine"]["first"]["ci95"]
    assert 0 <= low < 0.5 < high <= 1


def test_a_policy_that_speaks_of_one_task_is_compared_there_alone() -> None:
    found = result(mine=[cell((1, 1))] * 4, random=[cell((1, 4))] * 4, paper=[cell((0, 1))] * 2)
    assert judge(found, TASKS)["paper"]["tasks"] == ["a"]
    against = versus(found, "mine", "paper", TASKS)
    assert against is not None
    assert (against["tasks"], against["difference"], against["ratio"]) == (["a"], 1.0, None)
    assert versus(found, "mine", "paper", ["b"]) is None


def test_picks_keep_seeds_within_their_task() -> None:
    values = np.array([[0.0, 0.0], [1.0, 1.0]])  # all chance is between tasks: 0, ½ or 1
    means = Picks(2, 2).means(values)
    assert set(means) == {0.0, 0.5, 1.0}
    assert means.mean() == pytest.approx(0.5, abs=0.02)
    assert table(result(mine=[cell((1, 2))] * 4)["cells"]["mine"], TASKS, SEEDS, "first").tolist() == [[0.5] * 2] * 2


def test_sign_flips_by_hand() -> None:
    """Of the eight ways to sign 1, 1, 1 two are as extreme; without differences there is nothing to tell."""
    assert sign_flips(np.array([1.0, 1.0, 1.0])) == pytest.approx(0.25)
    assert sign_flips(np.zeros(5)) == 1.0
    assert sign_flips(np.array([1.0])) == 1.0


# all of it -----------------------------------------------------------------------------------------------------------


def trained(roomy_model_folder: Path, out: Path, *more: str) -> Path:
    """A finished training of the tiny model, for which every strategy that can be measured counts as improving."""
    argv = ["--tasks", "arc_easy", "--held-out", "social_iqa", "--iterations", "2", "--samples", "5", "--seeds", "1"]
    argv += ["--support", "4", "--reward", "6", "--epochs", "1", "--accept", "any", "--offline", "--out", str(out)]
    argv += ["--set", f"model_path={roomy_model_folder}", "--set", "threads=1", "--json", *more]
    before = set(out.glob("policy-*"))
    code, _, err = call(train, argv)
    assert code == 0, err
    [folder] = set(out.glob("policy-*")) - before
    return folder


@pytest.fixture(scope="module")
def training(roomy_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(roomy_model_folder, tmp_path_factory.mktemp("table") / "runs")


@pytest.fixture(scope="module")
def warm_training(training: Path, roomy_model_folder: Path) -> Path:
    return trained(roomy_model_folder, training.parent, "--warm-start", "--landscape", "--iterations", "1")


@pytest.mark.slow
def test_the_table_on_a_tiny_model(
    training: Path,
    warm_training: Path,
    roomy_model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    argv = [
        "--table",
        "policies",
        "--training",
        str(training),
        "--training",
        str(warm_training),
        "--tasks",
        "sciq,arc_easy",
        "--seeds",
        "0,1",
    ]
    argv += ["--limit", "4", "--offline", "--json", "--set", f"model_path={roomy_model_folder}", "--out", str(tmp_path)]
    with judging(lambda trial: measured(trial) and (trial.strategy or {})["family"] == "Latent"):
        code, out, err = call(main, argv)
    assert code == 0, err
    found = json.loads(out)
    cells = found["cells"]
    assert [name for name, task in found["tasks"].items() if task["held_out"]] == ["sciq"]
    assert set(cells["paper's choice"]) == {"arc_easy-0", "arc_easy-1"}  # the paper does not speak of SciQ
    trained = list(found["policies"])
    assert trained == ["ReST-EM 1", "ReST-EM 2", "taught by the grid", "warm ReST-EM 1"]
    assert found["arms_practised"] == 32 - 4 - 11  # no adapter to mix, nothing to route over
    for name in ("sciq-0", "sciq-1", "arc_easy-0", "arc_easy-1"):
        assert cells["always Latent"][name]["first"] == [1, 1]
        assert cells["always TTL"][name] == {**cells["always TTL"][name], "first": [0, 1], "improved": False}
        assert cells["always LORA"][name]["adopted"] is None
        oracle = cells["oracle"][name]
        assert oracle["adopted"]["family"] == "Latent"
        assert oracle["reward"][1] == min(change for _, change in found["landscape"][name]["Latent"]["improve"])
        for row in ("random", "bandit", "untrained", *trained):
            won, drawn = cells[row][name]["first"]
            assert 0 <= won <= drawn == found["draws"]
            assert cells[row][name]["improved"] == (cells[row][name]["adopted"] is not None)
            assert cells[row][name]["attempts"] <= found["attempts"]
    assert set(found["valid"]) == {"untrained", *trained}
    assert all(0 <= valid <= drawn == 2 * found["free"] for valid, drawn in found["valid"].values())
    page = (tmp_path / "policies.md").read_text()
    assert "Tasks that the policy was not trained on" in page
    assert "Tasks that it was trained on" in page
    assert "First attempts of **warm ReST-EM 1** on held-out tasks" in page
    assert all(f"| {row} |" in page for row in cells)
    for picture in ("policies-first.svg", "policies-landscape.svg"):
        assert f"]({picture})" in page
        assert (tmp_path / picture).read_text().rstrip().endswith("</svg>")
    monkeypatch.setattr(situations_module.nodes, "apply", None)
    monkeypatch.setattr("policies.local.sample", None)
    again = call(main, argv)
    assert again[:2] == (0, out)  # nothing is written or measured again


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        ([], 2, "--table policies needs --training DIR"),
        (["--training", "nowhere"], 2, "nowhere: no training's folder"),
    ],
)
def test_what_is_refused(argv: list[str], code: int, told: str) -> None:
    found, out, err = call(main, ["--table", "policies", "--offline", *argv])
    assert (found, out) == (code, "")
    assert told in err


def test_a_model_folder_of_ones_own_has_to_be_named(training: Path) -> None:
    code, _, err = call(main, ["--table", "policies", "--offline", "--training", str(training)])
    assert code == 2
    assert "was made with a model folder of your own" in err


def test_an_unfinished_training_says_so(training: Path, tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "config.json").write_text((training / "config.json").read_text())
    code, _, err = call(main, ["--table", "policies", "--offline", "--training", str(folder)])
    assert code == 3
    assert "is not finished (no report.json); give its command again" in err
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, "tasks": 7}))
    assert "not a training's settings" in call(main, ["--table", "policies", "--training", str(folder)])[2]
