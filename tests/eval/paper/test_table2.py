"""``python -m eval.tables --table 2`` on a tiny consolidation: baselines beside a whole run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval import compare
from eval.baselines import registry
from eval.baselines.ground import Ground, Target
from eval.baselines.registry import BASELINES
from eval.paper.rows import ALL
from tests.eval.paper.conftest import Place

METHODS = "base,nearest,no_meta_train,mean"
TASKS = ("openbookqa", "social_iqa")


class Table2(Place):
    """Table 2 of a tiny consolidation."""

    def arguments(self, table: str, *more: str) -> list[str]:
        given = super().arguments(table, "--tasks", ",".join(TASKS), "--methods", METHODS, *more)
        place = given.index("--pretrained")
        return [*given[:place], "--consolidation", given[place + 1], *given[place + 2 :]]


@pytest.fixture(scope="module")
def finished(tiny_model_folder: Path, tiny_consolidation: Path, tmp_path_factory: pytest.TempPathFactory) -> Table2:
    made = Table2(tmp_path_factory.mktemp("table2"), tiny_model_folder, tiny_consolidation)
    assert made.call("2") == 0
    return made


@pytest.mark.slow
def test_every_method_is_judged_on_the_same_questions(finished: Table2) -> None:
    rows = finished.result("table2")["rows"]
    assert list(rows) == ["base", "no_meta_train", "mean", "nearest", ALL]
    assert set(rows["base"]["cells"]) == set(TASKS)
    assert rows["no_meta_train"]["cells"]["social_iqa"]["seeds"] == 2
    assert rows["no_meta_train"]["spent"][1]["tokens"] > 0


@pytest.mark.slow
def test_two_of_its_rows_are_compared_by_name(finished: Table2, capsys: pytest.CaptureFixture[str]) -> None:
    file, rows = finished.folder / "pages" / "table2.json", finished.result("table2")["rows"]
    assert compare.main([f"{file}:base", f"{file}:nearest", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    both = [task for task in TASKS if task in rows["nearest"]["cells"]]
    assert found["n"] == sum(len(rows["base"]["cells"][task]["right"][0]) for task in both)
    right = "".join(rows["base"]["cells"][task]["right"][0] for task in both)
    assert found["a"]["accuracy"] == pytest.approx(right.count("1") / len(right))


@pytest.mark.slow
def test_differences_are_those_of_the_means(finished: Table2) -> None:
    result = finished.result("table2")
    cells: dict[str, Any] = {name: row["cells"] for name, row in result["rows"].items()}
    assert {one["other"] for one in result["versus"]} == {"base", "no_meta_train", "mean", "nearest"}
    for one in result["versus"]:
        gains = [cells[ALL][task]["accuracy"] - cells[one["other"]][task]["accuracy"] for task in one["tasks"]]
        assert one["accuracy"] == pytest.approx(np.mean(gains))
        assert one["holm"] >= one["p_value"]


def to_do(table: Table2, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, int]:
    """What the plan counts: row or preparation → how many."""
    capsys.readouterr()
    assert table.call("2", "--dry-run", "--json", *more) == 0
    found: dict[str, tuple[int, float]] = json.loads(capsys.readouterr().out)["2"]["to_do"]
    return {name: count for name, (count, _) in found.items()}


@pytest.mark.slow
def test_a_preparation_that_is_there_is_not_planned_again(finished: Table2, capsys: pytest.CaptureFixture[str]) -> None:
    assert to_do(finished, capsys) == {}
    again = to_do(finished, capsys, "--seeds", "7", "--methods", "base,no_meta_train")
    assert again == {"base": len(TASKS), "no_meta_train": len(TASKS), ALL: len(TASKS)}
    whole = to_do(finished, capsys, "--seeds", "7", "--methods", "base,no_meta_train", "--preset", "full")
    assert whole["preparation of no_meta_train"] > 0  # more rates than one are tried there


@pytest.mark.slow
def test_a_cell_is_known_by_the_labels_that_its_row_reads(
    finished: Table2, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Ground.target

    def corrected(self: Ground, *given: Any, **more: Any) -> Target:
        found = real(self, *given, **more)
        train = [one.model_copy(update={"answer": (one.answer + 1) % len(one.choices)}) for one in found.train[:1]]
        return replace(found, train=(*train, *found.train[1:]))

    monkeypatch.setattr(Ground, "target", corrected)
    assert to_do(finished, capsys) == {"no_meta_train": 2 * len(TASKS)}


@pytest.mark.slow
def test_a_row_that_the_table_does_not_have_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.call("2", "--methods", "base,cao_stage_1", "--dry-run") == 2
    assert "--methods cao_stage_1: Table 2 has no such row; it has: base, no_meta_train" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_not_at_hand_is_named_with_its_command(place: Place) -> None:
    one = ("--methods", "base,union_train", "--tasks", "social_iqa,jama", "--seeds", "0")
    assert place.call("2", *one) == 0
    rows = place.result("table2")["rows"]
    assert set(rows["base"]["cells"]) == {"social_iqa"}
    assert "python -m agent.consolidate --model" in rows["union_train"]["absent"]["social_iqa"]
    assert set(rows["base"]["absent"]) == {"jama"}


@pytest.mark.slow
def test_a_crash_in_a_baseline_leaves_the_others(
    finished: Table2, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Broken(BASELINES["no_meta_train"]):  # type: ignore[misc]
        name = "no_meta_train"

        def adapt(self, *given: object) -> None:
            raise ZeroDivisionError("by purpose")

    monkeypatch.setitem(registry.BASELINES, "no_meta_train", Broken)
    monkeypatch.setattr(Broken, "__module__", "eval.baselines.no_meta_train")
    more = ("--seeds", "5", "--tasks", "social_iqa", "--methods", "base,no_meta_train", "--out", str(tmp_path))
    assert finished.call("2", *more) == 0
    rows = json.loads((tmp_path / "table2.json").read_text())["rows"]
    assert set(rows["base"]["cells"]) == {"social_iqa"}
    absent = rows["no_meta_train"]["absent"]["social_iqa"]
    assert absent.startswith("seed 5: crashed: ZeroDivisionError: by purpose")
    assert absent.endswith("--methods no_meta_train --tasks social_iqa --seeds 5 --out runs/again")
    assert "## n/a" in (tmp_path / "table2.md").read_text()


@pytest.mark.slow
def test_tables_3_and_4_take_its_maml(tiny_model_folder: Path, tiny_consolidation: Path, tmp_path: Path) -> None:
    own = shutil.copytree(tiny_consolidation, tmp_path / "own", ignore=shutil.ignore_patterns("baselines"))
    table, pages = Table2(tmp_path, tiny_model_folder, own), tmp_path / "pages"
    assert table.call("3", "--seeds", "0", "--batches", "2") == 0
    absent = json.loads((pages / "table3.json").read_text())["rows"]["maml"]["absent"]
    assert "--table 2" in absent["social_iqa"]
    assert json.loads((pages / "table3.json").read_text())["verdicts"][0]["verdict"] == "not measured yet"
    assert table.call("2", "--seeds", "0", "--methods", "base,maml") == 0
    assert table.call("3", "--seeds", "0", "--batches", "2") == 0
    rows = json.loads((pages / "table3.json").read_text())["rows"]
    assert rows["maml"]["tasks"] == rows["maml_adapted"]["tasks"] == list(TASKS)


@pytest.mark.slow
def test_the_checkpoints_that_rows_are_made_of_are_trained_once(
    tiny_model_folder: Path, tiny_consolidation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = tmp_path / tiny_consolidation.name
    shutil.copytree(tiny_consolidation, lacking, ignore=shutil.ignore_patterns("checkpoints", "baselines"))
    place = Table2(tmp_path, tiny_model_folder, lacking)
    wanted = ("--methods", "base,nearest,mean", "--tasks", "social_iqa", "--seeds", "0")
    assert place.call("2", *wanted, "--dry-run", "--json") == 0
    to_do = json.loads(capsys.readouterr().out)["2"]["to_do"]
    assert to_do["checkpoints of sources"][0] == 2  # the nearest source is one of the mean's
    assert place.call("2", *wanted) == 0
    rows = place.result("table2")["rows"]
    assert set(rows["nearest"]["cells"]) == set(rows["mean"]["cells"]) == {"social_iqa"}
    averages = [
        {path.name for path in (one / "checkpoints").glob("*-average*")} for one in (lacking, tiny_consolidation)
    ]
    assert averages[0] == averages[1]
    assert place.call("2", *wanted, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["2"]["to_do"] == {}
