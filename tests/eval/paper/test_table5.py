"""``python -m eval.tables --table 5`` on the tiny model: each family alone, on top of what stage 1 makes."""

from pathlib import Path
from typing import get_args

import pytest

from cao.strategies import FAMILIES
from cao.strategies.base import Peft
from cao.types import AdaptedModel, AnswerRule
from eval.paper.cells.models import NOT_KEPT, Candidate
from eval.paper.rows import FAMILY, ROWS, STAGE_1
from eval.paper.tables.table5 import ALONE, TABLE
from tests.eval.paper.conftest import Place


@pytest.mark.slow
def test_each_family_acts_alone_on_what_stage_1_makes(
    tiny_model_folder: Path, tiny_shelf: Path, tmp_path: Path
) -> None:
    place = Place(tmp_path, tiny_model_folder, tiny_shelf)
    alone = [f"{FAMILY}{name}" for name in ("TTL", "LORA", "Latent", "Calibrate", "TTL_dora", "TTL_layers")]
    asked = ("--tasks", "arc_easy,social_iqa", "--seeds", "0", "--limit", "6", "--methods", ",".join(alone))
    assert place.call("5", *asked, "--workers", "2") == 0
    result = place.result("table5")
    rows = result["rows"]
    assert list(rows) == [STAGE_1, *alone]
    (made,) = rows[STAGE_1]["cells"]["arc_easy"]["adapters"]
    for name in alone:
        row = rows[name]
        assert set(row["cells"]) | set(row["absent"]) == {"arc_easy", "social_iqa"}, name
        for task, cell in row["cells"].items():
            assert ROWS[name].family == "Calibrate" or cell["notes"][0].startswith(ROWS[name].family), (name, task)
    assert set(rows[f"{FAMILY}LORA"]["cells"]) == {"arc_easy", "social_iqa"}  # it mixes an adapter, so there is one
    assert made
    assert {one["other"] for one in result["versus"]} == {STAGE_1}
    assert "0 tokens" not in (place.folder / "pages" / "table5.md").read_text()
    assert "families of strategies differ by task" in (place.folder / "pages" / "verdicts.md").read_text()


def test_the_claim_that_families_differ_counts_the_papers_alone() -> None:
    """Calibrate, which the paper does not have, is shown, and chosen for no task."""
    assert set(ALONE) - set(TABLE.chosen) == {f"{FAMILY}Calibrate"}
    assert {row for row, _ in TABLE.pairs} >= set(ALONE)


def test_what_nobody_kept_is_not_called_zero() -> None:
    model = AdaptedModel()
    assert Candidate(model, (AnswerRule(),), lambda: model).spent == (NOT_KEPT, NOT_KEPT)


def test_every_family_has_a_row_and_numbers_or_a_grid() -> None:
    assert set(ALONE) == {f"{FAMILY}{name}" for name in FAMILIES}
    assert all(ROWS[name].family in FAMILIES for name in TABLE.rows if name != STAGE_1)
    assert {ROWS[name].ttl.peft for name in TABLE.rows} == set(get_args(Peft)) - {"prompt"}  # acts on no adapter
    assert {ROWS[name].ttl.subset for name in TABLE.rows} == {"all", "layers"}
    assert {name for name, family in FAMILIES.items() if family.papers_numbers() is None} == {"Calibrate"}
