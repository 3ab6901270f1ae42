"""What the tests of this folder share."""

from pathlib import Path

import pytest

from tests.agent.train.generator.finished import Finished, call
from tests.agent.train.generator.tiny_consolidation import command


@pytest.fixture(scope="session")
def finished(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    out = tmp_path_factory.mktemp("consolidation")
    return Finished(call(command(tiny_model_folder, out, "--json")), out, tiny_model_folder)
