"""Scored cells: none is scored twice, a damaged one again."""

from pathlib import Path

import pytest

from cao.model.language_model import LanguageModel
from cao.tasks import TASKS
from cao.tasks.splits import part
from eval.generation import cells as cells_module
from eval.generation.cells import Cells
from eval.generation.recipes import BASE, Recipe


@pytest.fixture
def cells(tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cells:
    questions = {task: part(TASKS[task], "support")[:3] for task in ("arc_easy", "piqa")}
    made = Cells(tmp_path / "cells", tiny_lm, questions, lambda recipe: recipe.make(None) if recipe.make else None)
    evaluate, told = cells_module.evaluate, list[str]()
    monkeypatch.setattr(
        cells_module, "evaluate", lambda task, *a, **k: told.append(task.name) or evaluate(task, *a, **k)
    )
    made.told = told  # type: ignore[attr-defined]
    return made


def test_a_scored_cell_is_never_scored_again(cells: Cells) -> None:
    wanted = [(Recipe(BASE), "arc_easy"), (Recipe(BASE), "piqa"), (Recipe(BASE), "piqa")]
    missing = cells.missing(wanted)
    assert list(missing.values()) == [["arc_easy", "piqa"]]
    cells.score(missing)
    assert cells.missing(wanted) == {}
    again = Cells(cells.folder, cells.lm, cells.questions, cells.make)
    assert again.missing(wanted) == {}
    found = again.read(Recipe(BASE), "piqa")
    assert found is not None
    assert [item.id for item in found] == [example.id for example in cells.questions["piqa"]]
    assert cells.told == ["arc_easy", "piqa"]  # type: ignore[attr-defined]


def test_damaged_cells_and_other_questions_are_scored_again(cells: Cells) -> None:
    wanted = [(Recipe(BASE), "piqa")]
    cells.score(cells.missing(wanted))
    path = cells.folder / "piqa" / "base.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert cells.missing(wanted)
    path.write_bytes(whole)
    assert not cells.missing(wanted)
    fewer = Cells(cells.folder, cells.lm, {"piqa": cells.questions["piqa"][:2]}, cells.make)
    assert fewer.missing(wanted)


def test_two_recipes_of_one_adapter_share_a_cell_and_other_adapters_do_not(cells: Cells) -> None:
    start = cells.lm.fresh_lora(0)
    once, twice, other = (
        Recipe(key, lambda _, seed=seed: cells.lm.fresh_lora(seed)) for key, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    cells.score(cells.missing([(recipe, "piqa") for recipe in (once, twice, other)]))
    assert cells.hash_of(once) == cells.hash_of(twice) != cells.hash_of(other)
    assert cells.told == ["piqa", "piqa"]  # type: ignore[attr-defined]
    assert cells.hash_of(Recipe(BASE)) == BASE
    assert start.rank  # the model is undressed again
    assert not any("lora" in name for name, _ in cells.lm.model.named_modules())
