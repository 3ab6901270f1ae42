"""What the tests of this folder share."""

from pathlib import Path

import pytest
from torch import Tensor

from cao.model.language_model import LanguageModel
from tests.agent import tiny_pretrained
from tests.agent.run.generated.generated_runs import RIGHT, TASK
from tests.agent.run.tiny_runs import echo_rows, write_rows


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions whose gold answer is worded like the prompts: an adapter that learned the prompts must help."""
    return write_rows(tmp_path_factory.mktemp("task") / f"{TASK}.jsonl", echo_rows())


@pytest.fixture(scope="session")
def lm(tiny_model_folder: Path) -> LanguageModel:
    return tiny_pretrained.load(tiny_model_folder)


@pytest.fixture(scope="session")
def good(lm: LanguageModel) -> Tensor:
    """A residual that makes the letter of the right choice likelier."""
    return tiny_pretrained.learned(lm, RIGHT)


@pytest.fixture(scope="session")
def shelf(lm: LanguageModel, good: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants: ``full`` saw the task, ``without-echoes`` did not; both help."""
    sources = {"full": ["arc_easy", TASK], f"without-{TASK}": ["arc_easy"]}
    folder = tmp_path_factory.mktemp("pretrained")
    return tiny_pretrained.shelve(folder, lm, {"full": good, f"without-{TASK}": 0.9 * good}, sources)


@pytest.fixture
def use(tmp_path: Path, shelf: Path) -> None:
    """Put the shelf where ``command`` looks for trained parts."""
    (tmp_path / "pretrained").symlink_to(shelf.parent)
