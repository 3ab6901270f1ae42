"""Cells share answers only where they ask and judge alike."""

from pathlib import Path

import pytest

from cao.model.profiles import MODELS, laid_over, settings_of
from cao.profile_settings import ProfileSettings
from cao.progress import silent
from eval.options import TablesOptions
from eval.paper.cells import kept
from eval.paper.cells.desk import Desk, Shared
from eval.paper.cells.kept import ALIKE, Key, Shelf, depends_on
from tests.agent.tiny_pretrained import MODEL

ABOUT: dict[str, object] = {"row": "base", **{name: name for name in ALIKE}}
FIRST, SECOND = Key("base", "arc_easy", 0), Key("maml", "arc_easy", 1)


def lent(shelf: Shelf, about: dict[str, object]) -> bool:
    """Whether the answers of a finished cell are at hand for another one."""
    return (shelf.bench_folder(SECOND, about) / "items" / "kept-one.jsonl").exists()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    made = Shelf(tmp_path, "likelihood")
    (made.bench_folder(FIRST, ABOUT) / "items" / "kept-one.jsonl").write_text("answers")
    made.close(FIRST, ABOUT)
    return made


def test_another_row_has_the_answers_of_a_finished_cell(shelf: Shelf) -> None:
    assert lent(shelf, {**ABOUT, "row": "maml", "seed": 1})


@pytest.mark.parametrize("name", ALIKE)
def test_what_asks_or_judges_otherwise_begins_without_answers(shelf: Shelf, name: str) -> None:
    assert not lent(shelf, {**ABOUT, name: "another"})


def about(model: Path, work: Path, **more: object) -> dict[str, object]:
    given = {"table": "6", "model": MODEL, "model_path": str(model), "offline": True, "dtype": "float32"}
    options = TablesOptions.model_validate({**given, "limit": 4, "reward": 48, **more})
    return depends_on(Desk(Shared(options, work), silent), Key("base", "arc_easy", 0))


def test_settings_of_the_profile_and_code_that_judges_tell_cells_and_their_answers_apart(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = about(tiny_model_folder, tmp_path)
    assert kept.alike(first) == kept.alike(about(tiny_model_folder, tmp_path))
    chat = about(tiny_model_folder, tmp_path, profile={"chat": False})
    style = about(tiny_model_folder, tmp_path, profile={"answer_style": "text"})
    monkeypatch.setattr(kept, "code_of", lambda *roots: "another version")
    code = about(tiny_model_folder, tmp_path)
    every = [first, chat, style, code]
    assert len(set(map(kept.alike, every))) == len(set(map(kept.fingerprint_of, every))) == 4


def test_settings_are_told_as_they_are_laid_over() -> None:
    profile = MODELS["smollm2-135m"]
    changed = laid_over(profile, ProfileSettings(answer_style="letter", end_tokens=("x",)))
    assert settings_of(changed) == {**settings_of(profile), "answer_style": "letter", "end_tokens": ["x"]}
    assert settings_of(profile).keys() == ProfileSettings.model_fields.keys()
