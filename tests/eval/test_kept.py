"""Cells that are kept: made once, and refused where they are of something else."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cao.errors import InputError
from cao.types import Record
from eval.kept import Kept


class Count(Record):
    value: int


class Maker:
    """Counts how often something is made."""

    def __init__(self) -> None:
        self.times = 0

    def record(self) -> Count:
        self.times += 1
        return Count(value=self.times)

    def tensors(self) -> dict[str, Tensor]:
        self.times += 1
        return {"x": torch.full((2,), float(self.times))}


@pytest.mark.parametrize("kind", ["record", "tensors"])
def test_a_cell_is_made_once_for_what_it_depends_on(tmp_path: Path, kind: str) -> None:
    kept, maker = Kept(tmp_path, {"model": "a"}), Maker()

    def ask(depends_on: object, kept: Kept = kept) -> float:
        if kind == "record":
            return kept.record("cell", depends_on, Count, maker.record).value
        return float(kept.tensors("cell", depends_on, maker.tensors)["x"][0])

    assert [ask({"seed": 0}), ask({"seed": 0}), ask({"seed": 1}), ask({"seed": 0})] == [1, 1, 2, 1]
    assert ask({"seed": 0}, Kept(tmp_path, {"model": "b"})) == 3  # another model's is another cell


@pytest.mark.parametrize("kind", ["record", "tensors"])
def test_a_cell_of_other_settings_is_refused_and_named(tmp_path: Path, kind: str) -> None:
    theirs, ours, maker = Kept(tmp_path / "a", {"dtype": "x"}), Kept(tmp_path / "b", {"dtype": "y"}), Maker()
    for kept in (theirs, ours):
        if kind == "record":
            kept.record("cell", None, Count, maker.record)
        else:
            kept.tensors("cell", None, maker.tensors)
    (source,), (target,) = theirs.folder.glob("cell-*"), ours.folder.glob("cell-*")
    shutil.copy(source, target)
    with pytest.raises(InputError, match=r"cell-.*made with other code, data, weights or settings"):
        ours.record("cell", None, Count, maker.record) if kind == "record" else ours.tensors(
            "cell", None, maker.tensors
        )


def test_a_damaged_cell_is_named(tmp_path: Path) -> None:
    kept = Kept(tmp_path, {})
    kept.record("cell", None, Count, Maker().record)
    (path,) = tmp_path.glob("cell-*.json")
    path.write_text(path.read_text().replace('"value": 1', '"other": 1'))
    with pytest.raises(InputError, match=r"damaged.*delete it"):
        kept.record("cell", None, Count, Maker().record)
