"""``python -m eval.tables --table 2`` on a tiny consolidation, and the arithmetic of its rows."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import consolidate
from eval import tables
from eval.baselines import registry
from eval.baselines.registry import BASELINES
from eval.paper import making
from eval.paper.published import SIZES, average, figure
from eval.paper.rows import holm, two_sided
from tests.agent.train.generator.tiny_consolidation import FOLDER, command

TASKS = "openbookqa,social_iqa"


@dataclass
class Finished:
    """A tiny consolidation, and the table of four methods on it."""

    folder: Path
    model: Path
    result: dict[str, Any]

    def call(self, *more: str) -> int:
        given = ["--table", "2", "--consolidation", str(self.folder), "--set", f"model_path={self.model}", "--offline"]
        given += ["--methods", "base,nearest,no_meta_train,cao_stages_1_2", "--tasks", TASKS]
        return tables.main([*given, "--limit", "8", "--reward", "48", "--seeds", "0,1", "--rules", "paper", *more])


@pytest.fixture(scope="module")
def finished(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    out = tmp_path_factory.mktemp("table2")
    assert consolidate.main(command(tiny_model_folder, out)) == 0
    made = Finished(out / FOLDER, tiny_model_folder, {})
    assert made.call() == 0
    made.result = json.loads((made.folder / "report" / "table2.json").read_text())
    return made


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_bootstrap_on_one_side_of_zero_is_not_certain() -> None:
    assert two_sided(np.full(999, 1.0)) == pytest.approx(0.002)
    assert two_sided(np.array([1.0, -1.0] * 500)) == 1.0


def test_published_figures_stand_for_tasks_that_the_paper_has() -> None:
    assert (figure("0.5B", "maml", "piqa"), average("1.5B", "abmll", in_domain=False)) == (67.7, 34.3)
    assert figure("0.5B", "no_meta_train", "gsm8k") is None
    assert figure("0.5B", "base", "medqa") is None
    six = ("arc_challenge", "arc_easy", "hellaswag", "boolq", "piqa", "winogrande")
    for size in SIZES:
        for method in ("base", "union_train", "maml", "cao_stage_1"):
            mean = np.mean([figure(size, method, task) for task in six])
            assert mean == pytest.approx(average(size, method, in_domain=True), abs=0.11)


@pytest.mark.slow
def test_every_method_is_judged_on_the_same_questions(finished: Finished) -> None:
    result = finished.result
    assert set(result["rows"]) == {"base", "nearest", "no_meta_train", "cao_stage_1", "cao_stages_1_2"}
    for row in result["rows"].values():
        assert set(row["cells"]) | set(row["absent"]) == set(TASKS.split(","))
        for cell in row["cells"].values():
            assert cell["ci95"][0] <= cell["accuracy"] <= cell["ci95"][1]
            assert cell["accuracy"] * 8 * cell["seeds"] == pytest.approx(round(cell["accuracy"] * 8 * cell["seeds"]))
    assert result["rows"]["base"]["cells"]["social_iqa"]["seeds"] == 1
    assert result["n"] == {"openbookqa": 8, "social_iqa": 8}


@pytest.mark.slow
def test_differences_are_those_of_the_means(finished: Finished) -> None:
    rows = finished.result["rows"]
    own = {task: cell["accuracy"] for task, cell in rows["cao_stage_1"]["cells"].items()}
    for name, row in rows.items():
        for mean in row["means"].values():
            if name == "cao_stage_1":
                assert "against" not in mean
                continue
            gains = [own[task] - row["cells"][task]["accuracy"] for task in mean["tasks"]]
            assert mean["against"]["accuracy"] == pytest.approx(np.mean(gains))
            assert mean["against"]["holm"] >= mean["against"]["p_value"]


@pytest.mark.slow
def test_what_is_made_is_kept_and_the_page_names_what_is_missing(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: object, **more: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(making, "run_cell", never)
    assert finished.call("--out", str(finished.folder / "again")) == 0
    again = json.loads((finished.folder / "again" / "table2.json").read_text())
    assert again["rows"] == finished.result["rows"]
    page = (finished.folder / "again" / "table2.md").read_text()
    assert "No-Meta-Train" in page
    assert "| paper, 0.5B |" in page


@pytest.mark.slow
def test_a_crash_costs_one_cell_and_says_how_to_see_it(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(BASELINES["mean"]):  # type: ignore[misc]
        name = "mean"

        def adapt(self, *given: object) -> None:
            raise ZeroDivisionError("by purpose")

    monkeypatch.setitem(registry.BASELINES, "mean", Broken)
    assert finished.call("--methods", "base,mean", "--out", str(finished.folder / "broken")) == 0
    rows = json.loads((finished.folder / "broken" / "table2.json").read_text())["rows"]
    assert set(rows["base"]["cells"]) == set(TASKS.split(","))
    reason = rows["mean"]["absent"]["social_iqa"]
    assert reason.startswith("crashed: ZeroDivisionError: by purpose")
    assert "--methods mean --tasks social_iqa --seeds 0" in reason
    assert "n/a" in (finished.folder / "broken" / "table2.md").read_text()


@pytest.mark.slow
def test_an_unknown_method_is_refused(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    assert finished.call("--methods", "reptile") == 2
    assert "--methods reptile: no such method; known: base, " in capsys.readouterr().err
