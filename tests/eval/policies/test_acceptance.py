"""What is no better is accepted at the level at most, at each kind of candidate."""

import json
from pathlib import Path

import pytest

from eval.policies import acceptance
from eval.tables import main


@pytest.mark.parametrize("name", acceptance.CANDIDATES)
def test_candidates_that_are_no_better_are_accepted_at_the_level_at_most(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(acceptance, "CANDIDATES", {name: acceptance.CANDIDATES[name]})
    monkeypatch.setattr(acceptance, "QUESTIONS", (96,))
    rates = {rate.rule: rate.rate for rate in acceptance.measure("a test", seed=1, draws=200).rates}
    assert rates["confident"] <= rates["either"] <= (0.13 if name == acceptance.TWINS else 0.05)
    if name.startswith("scores"):
        assert rates["either"] == rates["any"] == 0.0
    else:
        assert rates["any"] <= 0.55


def test_a_run_tries_more_and_takes_it_at_lower_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "another model, as good"
    monkeypatch.setattr(acceptance, "CANDIDATES", {name: acceptance.CANDIDATES[name]})
    monkeypatch.setattr(acceptance, "QUESTIONS", (96,))
    found = acceptance.measure("a test", seed=1, draws=100)
    runs = {rate.rule: rate.rate for rate in found.runs}
    assert runs["confident"] <= runs["either"] <= 0.2
    assert runs["any"] > max(0.6, *(rate.rate for rate in found.rates))  # one of six is luckier than the model


def test_flatter_scores_bought_acceptance_where_they_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "scores × .8"
    monkeypatch.setattr(acceptance, "CANDIDATES", {name: acceptance.CANDIDATES[name]})
    monkeypatch.setattr(acceptance, "QUESTIONS", (96,))
    rates = {rate.rule: rate.rate for rate in acceptance.measure("a test", draws=50).rates}
    assert rates["raw"] > 0.3


def test_the_command_writes_the_page_and_the_same_figures_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(acceptance, "QUESTIONS", (24,))
    monkeypatch.setattr(acceptance.measure, "__defaults__", (0, 5, acceptance.silent))
    assert main(["--table", "acceptance", "--out", str(tmp_path), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first == json.loads((tmp_path / "acceptance.json").read_text())
    assert len(first["rates"]) == 4 * len(acceptance.CANDIDATES)
    page = (tmp_path / "acceptance.md").read_text()
    assert "--table acceptance" in page
    assert page.count("| 24 |") == len(acceptance.CANDIDATES) + len(acceptance.IN_RUNS)
    main(["--table", "acceptance", "--out", str(tmp_path), "--json"])
    assert json.loads(capsys.readouterr().out)["rates"] == first["rates"]
