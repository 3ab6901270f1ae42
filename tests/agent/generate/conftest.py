from pathlib import Path

import pytest
import torch

from cao.model.language_model import LanguageModel
from tests.agent import tiny_pretrained
from tests.agent.generate.command import PROMPTS, write


@pytest.fixture(scope="module")
def lm(tiny_model_folder: Path) -> LanguageModel:
    return tiny_pretrained.load(tiny_model_folder)


@pytest.fixture(scope="module")
def shelf(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    layout = tiny_pretrained.layout_of(lm)
    centre = 0.02 * torch.randn(layout.layers, layout.length, generator=torch.Generator().manual_seed(0))
    sources = {"full": ["arc_easy", "piqa"], "without-piqa": ["arc_easy"]}
    return tiny_pretrained.shelve(
        tmp_path_factory.mktemp("pretrained"), lm, {"full": centre, "without-piqa": 0.5 * centre}, sources, size=1e-3
    )


@pytest.fixture
def command(tiny_model_folder: Path, shelf: Path, tmp_path: Path) -> list[str]:
    write(tmp_path / "prompts.jsonl", PROMPTS)
    return [
        *("--prompts", str(tmp_path / "prompts.jsonl"), "--out", str(tmp_path / "made")),
        *("--model", tiny_pretrained.MODEL, "--set", f"model_path={tiny_model_folder}", "--offline"),
        *("--set", f"pretrained={shelf.parent}"),
    ]
