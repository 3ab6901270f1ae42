"""Sources of baselines are those of the generators that ship, whether or not their training's folder is at hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cao.errors import InputError, UnavailableError
from cao.progress import silent
from cao.tasks.same_problems import same_problems
from eval.baselines.ground import ground_of
from eval.generation.consolidation import open_given
from eval.generation.workshop import Workshop
from eval.options import TablesOptions
from eval.paper.cells.desk import Desk, Shared
from tests.agent.tiny_pretrained import MODEL
from tests.eval.shelf import shelf_like


def desk(model: Path, pretrained: Path, work: Path, reward: int = 96) -> Desk:
    given = {"table": "2", "model": MODEL, "model_path": str(model), "pretrained": str(pretrained), "offline": True}
    return Desk(Shared(TablesOptions.model_validate({**given, "dtype": "float32", "reward": reward}), work), silent)


def test_a_folder_is_laid_out_from_what_ships(tiny_model_folder: Path, tiny_shelf: Path, tmp_path: Path) -> None:
    shelf = shelf_like("wide", tiny_shelf, tmp_path / "shelf")
    workshop = desk(tiny_model_folder, shelf, tmp_path / "work").workshop
    assert workshop.has("variants/fold-1/generator")
    assert workshop.has("variants/full/aligner")
    for task, name in (("arc_easy", "fold-2"), ("gsm8k", "fold-2"), ("medqa", "full")):
        variant = ground_of(workshop, task).variant
        assert same_problems(task).isdisjoint(variant.sources)
        assert variant.name == name


def test_baselines_read_the_reward_questions_that_every_row_is_judged_by(
    tiny_model_folder: Path, tiny_shelf: Path, tmp_path: Path
) -> None:
    shelf = shelf_like("wide", tiny_shelf, tmp_path / "shelf")
    opened = desk(tiny_model_folder, shelf, tmp_path / "work", reward=48)
    measured, _ = opened.shared.measured("arc_easy")
    assert len(measured) == 48
    for seed in (0, 1):
        assert list(opened.ground("arc_easy").target("arc_easy", seed).reward) == measured


@pytest.mark.slow
def test_a_folder_is_opened_under_the_settings_of_the_command(
    tiny_consolidation: Path, tiny_model_folder: Path
) -> None:
    given = {"table": "generation", "model": MODEL, "model_path": str(tiny_model_folder), "offline": True}
    for style in ("letter", "text"):
        options = TablesOptions.model_validate({**given, "dtype": "float32", "profile": {"answer_style": style}})
        assert open_given(tiny_consolidation, options, silent).lm.profile.answer_style == style


@pytest.mark.slow
def test_a_table_asks_as_the_folder_was_made(tiny_consolidation: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_consolidation / "config.json").read_text())
    asked = {"answer_style": "text", "lora_targets": ["q_proj"]}
    (tmp_path / "config.json").write_text(json.dumps({**config, "profile": asked}))
    given = {"table": "2", "model": MODEL, "model_path": str(tiny_model_folder), "consolidation": str(tmp_path)}

    def workshop(profile: dict[str, object]) -> Workshop:
        options = TablesOptions.model_validate({**given, "offline": True, "dtype": "float32", "profile": profile})
        return Desk(Shared(options, tmp_path / "work"), silent).workshop

    words = r"--set 'profile\.answer_style=\"text\"' --set 'profile\.lora_targets=\[\"q_proj\"\]'$"
    with pytest.raises(InputError, match=words):
        workshop({"answer_style": "letter"})
    assert workshop(asked).consolidation.lm.profile.answer_style == "text"


def test_a_folder_that_is_laid_out_is_named_by_how_the_model_is_asked(
    tiny_model_folder: Path, tiny_shelf: Path, tmp_path: Path
) -> None:
    shelf = shelf_like("wide", tiny_shelf, tmp_path / "shelf")
    first = desk(tiny_model_folder, shelf, tmp_path / "work")
    other = desk(tiny_model_folder, shelf, tmp_path / "work")
    other.lm.profile = replace(other.lm.profile, answer_style="text")
    again = desk(tiny_model_folder, shelf, tmp_path / "work")
    assert first.workshop.consolidation.folder == again.workshop.consolidation.folder
    assert first.workshop.consolidation.folder != other.workshop.consolidation.folder


def test_other_sources_than_this_version_has_are_refused(
    tiny_model_folder: Path, tiny_shelf: Path, tmp_path: Path
) -> None:
    shelf = shelf_like("wide", tiny_shelf, tmp_path / "shelf", lost="sciq")
    with pytest.raises(UnavailableError, match="trained on other sources than this version has"):
        _ = desk(tiny_model_folder, shelf, tmp_path / "work").workshop


def test_sources_that_nobody_knows_are_not_guessed(tiny_model_folder: Path, tiny_shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"python -m agent\.consolidate --model"):
        _ = desk(tiny_model_folder, tiny_shelf, tmp_path / "work").workshop
