"""The table of policies on a tiny random model, from the trainings to the page."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.train.policy import situations as situations_module
from cao.model.adapters import adapter_sha256
from cao.model.language_model import LanguageModel
from cao.tasks import get_task
from cao.tasks.same_problems import saw
from eval.options import TablesOptions
from eval.policies import sources
from eval.policies.sources import source_of
from eval.tables import main
from policies.trained import find_policy, index_of, read_policies
from tests.agent.train.policy.tiny_policy_training import call, judging, measured, train

pytestmark = pytest.mark.slow


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
    trainings = [word for folder in (training, warm_training) for word in ("--training", str(folder))]
    argv = ["--table", "policies", *trainings, "--tasks", "sciq,arc_easy", "--seeds", "0,1"]
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
    # no adapter to mix, nothing to route over; no labels that every question has, and the rule that is in use already
    assert found["arms_practised"] == 53 - 6 - 10 - 12 - 1
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
    assert {cells["warm ReST-EM 1, ranked"][name]["first"][1] for name in ("sciq-0", "arc_easy-1")} == {1}
    assert set(found["valid"]) == {"untrained", *trained}
    assert all(0 <= valid <= drawn == 2 * found["free"] for valid, drawn in found["valid"].values())
    page = (tmp_path / "policies.md").read_text()
    assert "Tasks that the policy was not trained on" in page
    assert "Tasks that it was trained on" in page
    assert "First attempts of **warm ReST-EM 1** on held-out tasks" in page
    assert all(f"| {row} |" in page for row in cells)
    assert "| base, best rule | start |" in page
    for picture in ("policies-first.svg", "policies-landscape.svg"):
        assert f"]({picture})" in page
        assert (tmp_path / picture).read_text().rstrip().endswith("</svg>")
    monkeypatch.setattr(situations_module.nodes, "apply", None)
    monkeypatch.setattr("policies.local.sample", None)
    again = call(main, argv)
    assert again[:2] == (0, out)  # nothing is written or measured again
    costs = {name: report["costs"]["grid_measured"] for name, report in found["trainings"].items()}
    assert costs == {training.name: 0, warm_training.name: costs[warm_training.name]}
    assert costs[warm_training.name] >= found["arms_practised"]  # of one practised situation, and of one held out


def test_without_a_training_what_ships_is_judged_and_goes_on_where_it_was(
    roomy_model_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    argv = ["--table", "policies", "--tasks", "sciq", "--seeds", "0", "--reward", "48", "--limit", "4", "--offline"]
    argv += ["--json", "--set", f"model_path={roomy_model_folder}", "--work", str(tmp_path / "work")]
    argv += ["--out", str(tmp_path / "page")]
    with judging(lambda trial: measured(trial) and (trial.strategy or {})["family"] == "Latent"):
        code, out, err = call(main, argv)
    assert code == 0, err
    found = json.loads(out)
    assert found["trainings"] == found["policies"] == {}  # nothing ships for a model of random weights
    assert found["tasks"] == {"sciq": {"held_out": True}}
    assert {"random", "untrained", "oracle"} < set(found["rows"])
    assert "bandit" not in found["rows"]  # it has no practice to draw from
    assert found["cells"]["oracle"]["sciq-0"]["adopted"]["family"] == "Latent"
    page = (tmp_path / "page" / "policies.md").read_text()
    assert "trained on nothing" in page
    assert "No trained policy" in page
    assert "The trainings' own samples" not in page
    assert (tmp_path / "work" / "texts.jsonl").is_file()
    monkeypatch.setattr(situations_module.nodes, "apply", None)
    monkeypatch.setattr("policies.local.sample", None)
    assert call(main, argv)[:2] == (0, out)


def test_what_ships_is_found_with_what_it_practised_on() -> None:
    index = index_of()
    [base] = read_policies(index).policies
    adapter = find_policy(base, index)
    assert adapter is not None
    lm = SimpleNamespace(sha256=base, profile=SimpleNamespace(name="smollm2-135m"))
    learnt = source_of(TablesOptions(table="policies")).learnt(cast(LanguageModel, lm))
    assert adapter_sha256(learnt.adapters["shipped"]) == adapter_sha256(adapter)
    assert {"openbookqa", "commonsense_qa"} <= learnt.practised
    assert not learnt.practised & {"social_iqa", "gsm8k", "math", "medqa"}


def test_a_users_file_that_was_practised_on_is_known_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [{"question": f"{n}?", "choices": ["a", "b"], "answer": 0} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(sources, "find_policy", lambda *_: None)
    training: Any = SimpleNamespace(settings=SimpleNamespace(tasks=(str(path),)), policies={}, folder=tmp_path, arms={})
    plan: Any = SimpleNamespace(config=SimpleNamespace(pretrained=""))
    found = sources.Trainings(plan, tmp_path, {}, (training,)).learnt(cast(LanguageModel, SimpleNamespace(sha256="")))
    assert found.practised == {"mine"}
    assert saw(get_task(str(path)).name, found.practised)


def test_a_selection_that_was_installed_is_judged_and_its_tasks_are_not_held_out(tmp_path: Path) -> None:
    point = {"strategy": {"family": "LORA", "lambda": 0.5}, "mean": 0.1, "weights": []}
    surrogate = {"features": [], "centre": [], "scale": [], "points": [point]}
    learnt = {"base_sha256": "base", "portfolio": [point["strategy"]], "surrogate": surrogate}
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "selection.json").write_text(json.dumps({**learnt, "made": {"tasks": ["gsm8k"]}}))
    lm = SimpleNamespace(sha256="base", profile=SimpleNamespace(name="tiny"))
    found = source_of(TablesOptions(table="policies", pretrained=str(tmp_path))).learnt(cast(LanguageModel, lm))
    assert found.selection is not None
    assert found.practised == {"gsm8k"}
    assert found.adapters == {}


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["--tasks", "nothing"], 2, "nothing"),
        (["--training", "nowhere"], 2, "nowhere: no training's folder"),
    ],
)
def test_what_is_refused(
    argv: list[str], code: int, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = call(main, ["--table", "policies", "--offline", *argv])
    assert (found, out) == (code, "")
    assert told in err


def test_a_model_folder_of_ones_own_has_to_be_named_and_reward_questions_are_the_trainings(training: Path) -> None:
    code, _, err = call(main, ["--table", "policies", "--offline", "--training", str(training)])
    assert code == 2
    assert "was made with a model folder of your own" in err
    code, _, err = call(main, ["--table", "policies", "--offline", "--training", str(training), "--reward", "48"])
    assert code == 2
    assert "these trainings are of 6 reward questions; leave out --reward" in err


def test_an_unfinished_training_says_so(training: Path, tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "config.json").write_text((training / "config.json").read_text())
    code, _, err = call(main, ["--table", "policies", "--offline", "--training", str(folder)])
    assert code == 3
    assert "is not finished (report.json does not tell it all); give its command again" in err
    report = json.loads((training / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps({**report, "iterations": report["iterations"][:1]}))
    (folder / "policy-1").mkdir()  # of a later command, which was killed before it had a report of its own
    code, _, err = call(main, ["--table", "policies", "--offline", "--training", str(folder)])
    assert code == 3
    assert "is not finished (report.json does not tell it all)" in err
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, "tasks": 7}))
    assert "not a training's settings" in call(main, ["--table", "policies", "--training", str(folder)])[2]
