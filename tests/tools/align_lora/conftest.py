"""What the tests of this folder share."""

import pytest

from tests.tools.align_lora.tiny_aligners import train
from tools.align_lora.aligner import TrainedAligner


@pytest.fixture(scope="session")
def trained() -> TrainedAligner:
    return train()[0]
