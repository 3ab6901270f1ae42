"""``python -m eval.tables --table 6`` on the tiny model: every stage, kept cell by cell."""

import json
import re
from pathlib import Path

import pytest

from cao.errors import InputError
from cao.files import SEAL, sealed
from eval.paper.cells import work
from eval.paper.cells.kept import Key, Shelf
from eval.paper.rows import ALL, PAPERS_ALL, STAGE_1, STAGES_1_2
from eval.paper.tables.table6 import STAGES
from tests.eval.paper.conftest import TASKS, Place


@pytest.fixture(scope="module")
def made(tiny_model_folder: Path, tiny_shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Table 6 of two tasks and two seeds."""
    place = Place(tmp_path_factory.mktemp("table6"), tiny_model_folder, tiny_shelf)
    assert place.call("6") == 0
    return place


@pytest.mark.slow
def test_every_stage_is_judged_on_the_same_questions(made: Place) -> None:
    result = made.result("table6")
    assert list(result["rows"]) == [*STAGES, PAPERS_ALL]
    for row in result["rows"].values():
        assert set(row["cells"]) == set(TASKS)
        assert row["absent"] == {}
        for cell in row["cells"].values():
            right = cell["accuracy"] * 8 * cell["seeds"]
            assert right == pytest.approx(round(right))
            assert cell["ci95"][0] <= cell["accuracy"] <= cell["ci95"][1]
    assert {task: result["rows"]["base"]["cells"][task]["seeds"] for task in TASKS} == dict.fromkeys(TASKS, 1)
    assert result["rows"][STAGE_1]["cells"]["arc_easy"]["seeds"] == 2
    assert result["n"] == dict.fromkeys(TASKS, 8)


@pytest.mark.slow
def test_each_task_is_served_by_what_never_saw_it(made: Place) -> None:
    cells = made.result("table6")["rows"][STAGE_1]["cells"]
    assert set(cells["arc_easy"]["notes"]) == {"variant without-arc_easy"}
    assert set(cells["social_iqa"]["notes"]) == {"variant full"}


@pytest.mark.slow
def test_all_stages_are_a_whole_run(made: Place) -> None:
    row = made.result("table6")["rows"][ALL]
    assert all(
        re.match(r"start \w+; .+ after \d attempts", note) for cell in row["cells"].values() for note in cell["notes"]
    )
    assert row["spent"][1]["seconds"] > 0
    assert row["spent"][1]["tokens"] > 0


@pytest.mark.slow
def test_one_row_of_whole_runs_accepts_as_the_paper_does(made: Place) -> None:
    for row, rule in ((ALL, "either"), (PAPERS_ALL, "any")):
        cells = list((made.folder / "work" / "cells" / "likelihood" / row).glob("*.json"))
        assert len(cells) == 4
        assert {json.loads(path.read_text())["depends_on"]["run"]["accept"] for path in cells} == {rule}
    said = "“CAO-LLM, accepting as the paper does” accepts whatever has a higher accuracy on the reward part"
    assert said in (made.folder / "pages" / "table6.md").read_text()


@pytest.mark.slow
def test_pages_pictures_and_verdicts_are_written(made: Place) -> None:
    pages = made.folder / "pages"
    assert {path.name for path in pages.iterdir()} == {"table6.json", "table6.md", "table6-stages.svg", "verdicts.md"}
    text = (pages / "table6.md").read_text()
    assert "| row | accuracy (95 %) | plain rule | log-loss | seeds | at chance | paper, 0.5B | paper, 1.5B |" in text
    assert "![table6-stages.svg](table6-stages.svg)" in text
    assert "| stage 1 alone hurts out of domain | **does not hold here** |" in (pages / "verdicts.md").read_text()


@pytest.mark.slow
def test_what_is_there_is_not_made_again(made: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before = made.result("table6")

    def never(*given: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(work, "fill", never)
    assert made.call("6") == 0
    assert made.result("table6") == before


@pytest.mark.slow
def test_other_settings_are_other_cells(made: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert made.call("6", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"6": {"to_do": {}, "absent": {}}}
    assert made.call("6", "--limit", "9", "--dry-run", "--json") == 0
    lacking = json.loads(capsys.readouterr().out)["6"]["to_do"]
    seeded = dict.fromkeys((STAGE_1, STAGES_1_2, ALL, PAPERS_ALL), 4)
    assert {row: count for row, (count, _) in lacking.items()} == {"base": 2, **seeded}
    assert made.call("6", "--dtype", "bfloat16", "--dry-run", "--json") == 0
    assert sum(count for count, _ in json.loads(capsys.readouterr().out)["6"]["to_do"].values()) == 18


@pytest.mark.slow
def test_a_cell_that_is_not_what_its_name_says_is_refused(made: Place) -> None:
    shelf = Shelf(made.folder / "work", "likelihood")
    path = next((shelf.folder / "base").glob("arc_easy-0-*.json"))
    kept = json.loads(path.read_text())
    fingerprint = kept["fingerprint"]
    assert shelf.read(Key("base", "arc_easy", 0), fingerprint) is not None
    assert shelf.read(Key("base", "arc_easy", 0), "f" * 64) is None
    changed = {**kept, "depends_on": {**kept["depends_on"], "model": "another"}}
    path.write_text(json.dumps(changed))
    with pytest.raises(InputError, match="damaged"):
        shelf.read(Key("base", "arc_easy", 0), fingerprint)
    path.write_text(json.dumps(sealed({name: value for name, value in changed.items() if name != SEAL})))
    with pytest.raises(InputError, match="not the cell that its name says"):
        shelf.read(Key("base", "arc_easy", 0), fingerprint)
    path.write_text(json.dumps(kept))


@pytest.mark.slow
def test_a_crash_costs_one_cell_and_says_how_to_see_it(
    made: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*given: object) -> None:
        raise ZeroDivisionError("by purpose")

    monkeypatch.setattr("eval.paper.cells.models.made_by_stages", broken)
    sizes = ("--methods", STAGE_1, "--tasks", "social_iqa", "--seeds", "7", "--out", str(tmp_path))
    assert made.call("6", *sizes) == 0
    rows = json.loads((tmp_path / "table6.json").read_text())["rows"]
    assert set(rows["base"]["cells"]) == {"social_iqa"}
    reason = rows[STAGE_1]["absent"]["social_iqa"]
    assert reason.startswith("seed 7: crashed: ZeroDivisionError: by purpose (")
    assert reason.endswith(f"--methods {STAGE_1} --tasks social_iqa --seeds 7 --out runs/again")


@pytest.mark.slow
def test_answers_may_be_written(made: Place) -> None:
    sizes = ("--tasks", "arc_easy", "--seeds", "0", "--limit", "4", "--methods", "base")
    assert made.call("6", "--protocol", "generate", *sizes) == 0
    cell = made.result("table6-generate")["rows"]["base"]["cells"]["arc_easy"]
    assert 0 <= cell["parsable"] <= 1
    assert "| row | accuracy (95 %) | parsable | seeds |" in (made.folder / "pages" / "table6-generate.md").read_text()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--methods", "reptile"), "--methods reptile: no such row; known: base, "),
        (("--tasks", "nothing"), "nothing"),
        (("--preset", "huge"), "--preset"),
    ],
)
def test_bad_input_is_refused_at_once(
    place: Place, wrong: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = place.call("6", *wrong)
    except SystemExit as error:
        status = int(str(error.code))
    assert status == 2
    assert said in capsys.readouterr().err
