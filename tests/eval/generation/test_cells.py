"""Scored cells: none is scored twice, a damaged or an older one again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cao.model.language_model import LanguageModel
from eval.generation import cells as cells_module
from eval.generation.cells import Ask, Cells, cells_folder
from eval.generation.sheets import Sheet, questions
from eval.generation.workshop import BASE, Recipe
from tools.evaluate import load_items, save_items

ARC, PIQA = (Ask(Sheet(task, "support", 3)) for task in ("arc_easy", "piqa"))


def opened(folder: Path, lm: LanguageModel) -> Cells:
    return Cells(folder, lm, lambda recipe: recipe.make(None) if recipe.make else None)


@pytest.fixture
def cells(tiny_lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cells:
    made, evaluate, told = opened(tmp_path / "cells", tiny_lm), cells_module.evaluate, list[str]()
    monkeypatch.setattr(
        cells_module, "evaluate", lambda task, *a, **k: told.append(task.name) or evaluate(task, *a, **k)
    )
    made.told = told  # type: ignore[attr-defined]
    return made


def test_a_scored_cell_is_never_scored_again(cells: Cells) -> None:
    wanted = [(Recipe(BASE), ARC), (Recipe(BASE), PIQA), (Recipe(BASE), PIQA)]
    missing = cells.missing(wanted)
    assert list(missing.values()) == [[ARC, PIQA]]
    cells.score(missing)
    assert cells.missing(wanted) == {}
    again = opened(cells.folder, cells.lm)
    assert again.missing(wanted) == {}
    found = again.read(Recipe(BASE), PIQA.sheet)
    assert found is not None
    assert [item.id for item in found] == [example.id for example in questions(PIQA.sheet)]
    assert cells.told == ["arc_easy", "piqa"]  # type: ignore[attr-defined]


def test_another_model_and_way_of_asking_have_cells_of_their_own(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    letter, text = (replace(tiny_lm, profile=replace(tiny_lm.profile, answer_style=s)) for s in ("letter", "text"))
    other = replace(tiny_lm, sha256="0" * 64)
    assert len({cells_folder(tmp_path, "cpu", lm) for lm in (letter, text, other)}) == 3
    assert cells_folder(tmp_path, "cpu", replace(text)) == cells_folder(tmp_path, "cpu", text)


def test_damaged_cells_and_other_questions_are_scored_again(cells: Cells) -> None:
    wanted = [(Recipe(BASE), PIQA)]
    cells.score(cells.missing(wanted))
    path = cells.folder / "support-3" / "piqa" / "base.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert cells.missing(wanted)
    path.write_bytes(whole)
    assert not cells.missing(wanted)
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    assert cells.missing(wanted)
    path.write_bytes(whole)
    save_items(path, [item.model_copy(update={"choices": ()}) for item in load_items(path)])  # as older versions did
    assert cells.missing(wanted)


def test_the_choices_behind_an_empty_question_are_scored_where_they_are_wanted(cells: Cells) -> None:
    cells.score(cells.missing([(Recipe(BASE), PIQA)]))
    assert cells.prior(Recipe(BASE), PIQA.sheet) is None
    wanted = [(Recipe(BASE), Ask(PIQA.sheet, prior=True))]
    cells.score(cells.missing(wanted))
    assert cells.missing(wanted) == {}
    prior = cells.prior(Recipe(BASE), PIQA.sheet)
    assert prior is not None
    assert set(prior) == {f" {choice}" for example in questions(PIQA.sheet) for choice in example.choices}
    assert cells.told == ["piqa"]  # type: ignore[attr-defined]  # the answers were there
    path = cells.folder / "support-3" / "piqa" / "base.prior.json"
    path.write_text(json.dumps(dict(list(prior.items())[1:])))
    assert cells.missing(wanted)


def test_two_recipes_of_one_adapter_share_a_cell_and_other_adapters_do_not(cells: Cells) -> None:
    once, twice, other = (
        Recipe(key, lambda _, seed=seed: cells.lm.fresh_lora(seed)) for key, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    cells.score(cells.missing([(recipe, PIQA) for recipe in (once, twice, other)]))
    assert cells.hash_of(once) == cells.hash_of(twice) != cells.hash_of(other)
    assert cells.told == ["piqa", "piqa"]  # type: ignore[attr-defined]
    assert cells.hash_of(Recipe(BASE)) == BASE
    assert not any("lora" in name for name, _ in cells.lm.model.named_modules())  # the model is undressed again
