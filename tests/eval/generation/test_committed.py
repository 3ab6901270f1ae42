"""The committed pages say what their figures say."""

from pathlib import Path

import pytest

from eval.generation.page import write_page
from eval.generation.results import GenerationResult
from tests.agent.tiny_pretrained import ROOT

RESULTS = ROOT / "docs" / "results"


@pytest.mark.parametrize("folder", [".", "gemma-3-270m"])
def test_a_committed_page_is_what_its_figures_make(folder: str, tmp_path: Path) -> None:
    figures = (RESULTS / folder / "generation.json").read_text(encoding="utf-8")
    page = write_page(GenerationResult.model_validate_json(figures), tmp_path)
    assert page.read_bytes() == (RESULTS / folder / "generation.md").read_bytes()
    assert (tmp_path / "generation.json").read_text(encoding="utf-8") == figures
