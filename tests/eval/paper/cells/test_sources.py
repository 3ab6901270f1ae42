"""Sources of baselines are those of the generators that ship, whether or not their training's folder is at hand."""

from pathlib import Path

import pytest

from cao.errors import UnavailableError
from cao.progress import silent
from eval.baselines.ground import ground_of
from eval.options import TablesOptions
from eval.paper.cells.desk import Desk, Shared
from tests.agent.tiny_pretrained import MODEL
from tests.eval.shelf import shelf_like


def desk(model: Path, pretrained: Path, work: Path) -> Desk:
    given = {"table": "2", "model": MODEL, "model_path": str(model), "pretrained": str(pretrained), "offline": True}
    return Desk(Shared(TablesOptions.model_validate({**given, "dtype": "float32"}), work), silent)


def test_a_folder_is_laid_out_from_what_ships(tiny_model_folder: Path, tiny_shelf: Path, tmp_path: Path) -> None:
    shelf = shelf_like("wide", tiny_shelf, tmp_path / "shelf")
    workshop = desk(tiny_model_folder, shelf, tmp_path / "work").workshop
    assert workshop.has("variants/fold-1/generator")
    assert workshop.has("variants/full/aligner")
    for task in ("arc_easy", "gsm8k"):
        variant = ground_of(workshop, task).variant
        assert task not in variant.sources
        assert variant.name == {"arc_easy": "fold-2", "gsm8k": "full"}[task]


def test_other_sources_than_this_version_has_are_refused(
    tiny_model_folder: Path, tiny_shelf: Path, tmp_path: Path
) -> None:
    shelf = shelf_like("wide", tiny_shelf, tmp_path / "shelf", lost="sciq")
    with pytest.raises(UnavailableError, match="trained on other sources than this version has"):
        _ = desk(tiny_model_folder, shelf, tmp_path / "work").workshop


def test_sources_that_nobody_knows_are_not_guessed(tiny_model_folder: Path, tiny_shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"python -m agent\.consolidate --model"):
        _ = desk(tiny_model_folder, tiny_shelf, tmp_path / "work").workshop
