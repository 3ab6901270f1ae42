"""What the tests of this folder share."""

from pathlib import Path

import pytest

from agent import consolidate
from eval.baselines.ground import Ground, ground_of
from eval.generation.consolidation import open_folder
from eval.generation.workshop import Workshop
from tests.agent.train.generator.tiny_consolidation import FOLDER, command


@pytest.fixture(scope="session")
def workshop(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A finished consolidation of two sources on the tiny model."""
    out = tmp_path_factory.mktemp("baselines")
    assert consolidate.main(command(tiny_model_folder, out)) == 0
    folder, model = out / FOLDER, str(tiny_model_folder)
    return Workshop(
        open_folder(folder, model_path=model, device="cpu", dtype="float32", offline=True, progress=lambda *_: None)
    )


@pytest.fixture
def ground(workshop: Workshop, tmp_path: Path) -> Ground:
    """The sources for a task that is none of them, with a folder of its own."""
    made = ground_of(workshop, "social_iqa")
    return Ground(made.workshop, made.variant, tmp_path)
