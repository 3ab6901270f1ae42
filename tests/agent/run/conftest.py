"""What the tests of this folder share."""

from pathlib import Path

import pytest

from tests.agent.run.tiny_runs import echo_rows, write_rows


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {
            "question": f"How much is {a} plus {b}?",
            "choices": [str(a + b), str(a + b + 1), str(a * b + 2)],
            "answer": 0,
        }
        for a in range(2, 8)
        for b in range(10, 17)
    ]
    return write_rows(tmp_path_factory.mktemp("task") / "sums.jsonl", rows)


@pytest.fixture(scope="session")
def echoes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions whose gold answer is worded like the prompts: learning the prompts must make it likelier."""
    return write_rows(tmp_path_factory.mktemp("task") / "echoes.jsonl", echo_rows())
