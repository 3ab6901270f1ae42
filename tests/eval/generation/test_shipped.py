"""``python -m eval.tables --table generation`` without a folder: what ships is judged."""

import json
from pathlib import Path

import pytest

from agent.train.generator.presets import PRESETS
from agent.train.generator.settings import Settings
from cao.files import write_json
from cao.profile_settings import ProfileSettings
from cao.progress import silent
from eval import tables
from eval.generation.consolidation import open_folder
from eval.generation.pooled import POOL_KINDS
from eval.generation.recipes import NOT_WANTED
from tests.agent.tiny_pretrained import MODEL
from tests.eval.shelf import shelf_like

pytestmark = pytest.mark.slow

ASKED = ("--tasks", "social_iqa,gsm8k", "--limit", "4", "--reward", "48", "--seeds", "0", "--offline")


@pytest.fixture
def small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset of what ships, with two sources and few prompts."""
    changed = {"sources": ("openbookqa", "sciq"), "folds": 0, "extra": {}, "prompts_encoded": 8}
    monkeypatch.setitem(PRESETS, "wide", PRESETS["wide"].model_copy(update=changed))


def call(model: Path, *more: str) -> int:
    own = ("--model", MODEL, "--set", f"model_path={model}", "--dtype", "float32")
    return tables.main(["--table", "generation", *own, *ASKED, *more])


@pytest.mark.usefixtures("small_preset")
def test_what_ships_is_judged_without_a_folder_and_rows_may_be_chosen(
    tiny_model_folder: Path, tiny_shelf: Path, tmp_path: Path
) -> None:
    parts = shelf_like("wide", tiny_shelf, tmp_path / "shelf")
    more = ("--pretrained", str(parts), "--work", str(tmp_path / "work"), "--methods", "wrong,no prompts")
    assert call(tiny_model_folder, *more) == 0
    page = tmp_path / "work" / "report" / "generation.md"
    result = json.loads(page.with_suffix(".json").read_text())
    for task in result["tasks"].values():
        assert set(task["rows"]) == {"base", "generated", "wrong", "no prompts"}
        assert {near["source"] for near in task["near"]["nearest"].values()} <= {"openbookqa", "sciq"}
    assert result["missing"]["nearest"] == NOT_WANTED
    assert result["retention"] is None
    unwanted = "aligned, fused, misaligned, centre, union, mean, nearest, generated+nearest, "
    assert f"Rows that were not asked for: {unwanted}{', '.join(POOL_KINDS)}, shuffled" in page.read_text()
    assert not list((tmp_path / "work").rglob("checkpoints"))  # nothing was trained for a row that nobody wants


def test_a_model_that_nothing_was_trained_for_is_told_how(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tiny_model_folder, "--work", str(tmp_path / "work")) == 3
    assert "nothing was trained for" in (said := capsys.readouterr().err)
    assert "python -m agent.consolidate --model" in said


def test_a_consolidation_of_a_model_without_a_name_is_opened(tiny_model_folder: Path, tmp_path: Path) -> None:
    model, profile = str(tiny_model_folder), ProfileSettings(lora_rank=2)
    settings = Settings(model=model, profile=profile, offline=True, dtype="float32")
    write_json(tmp_path / "config.json", settings.claim())
    opened = open_folder(tmp_path, model_path=None, device="cpu", dtype="float32", offline=True, progress=silent)
    assert opened.preset == settings.resolved()
    assert opened.lm.sha256 == settings.claim()["model_path_sha256"]
    assert (opened.lm.profile.name, opened.lm.profile.lora_rank) == (settings.base.name, 2)


def test_a_row_that_there_is_none_of_is_refused(
    tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tiny_model_folder, "--work", str(tmp_path / "work"), "--methods", "best") == 2
    assert "--methods: no row is called 'best'; known: base, generated" in capsys.readouterr().err
