"""What was trained for the tiny model."""

from pathlib import Path

import pytest
import torch

from tests.agent.tiny_pretrained import layout_of, load, shelve


@pytest.fixture(scope="session")
def tiny_shelf(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generators that know nothing: ``full`` saw arc_easy, and one never did."""
    lm = load(tiny_model_folder)
    layout = layout_of(lm)
    nothing = torch.zeros(layout.layers, layout.length)
    folder = tmp_path_factory.mktemp("shelf")
    names = {"full": ["arc_easy", "openbookqa"], "without-arc_easy": ["openbookqa"]}
    shelve(folder, lm, dict.fromkeys(names, nothing), names)
    return folder
