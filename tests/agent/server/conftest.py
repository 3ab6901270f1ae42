"""A server of the tiny model that the tests of this folder share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

from tests.agent.server.running_site import KEY, Served, options, serving


@pytest.fixture(scope="session")
def it(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serves the tiny model, with a key and small limits."""
    chosen = options(tiny_model_folder, tmp_path_factory.mktemp("serve"), max_body=20_000, timeout_s=1, max_tokens=64)
    with serving(chosen, KEY) as site:
        yield site
