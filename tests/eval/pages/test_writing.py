"""A page and its figures: written together, or refused with what to do."""

import json
from pathlib import Path

import pytest

from cao.errors import InputError
from cao.types import Record
from eval.pages.writing import write_result


class Figures(Record):
    accuracy: float


def test_a_page_stands_beside_its_figures(tmp_path: Path) -> None:
    page = write_result(Figures(accuracy=0.5), "# Text\n", tmp_path / "a" / "b", "table")
    assert page.read_text() == "# Text\n"
    assert json.loads(page.with_suffix(".json").read_text()) == {"accuracy": 0.5}


def test_where_nothing_can_be_written_the_option_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file: cannot be written \(File exists\); choose another --out"):
        write_result(Figures(accuracy=0.5), "# Text\n", tmp_path / "file", "table")


def test_figures_are_finite(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_result(Figures.model_construct(accuracy=float("nan")), "# Text\n", tmp_path, "table")
    assert not list(tmp_path.iterdir())
