"""What the tests of this folder share."""

import json
from pathlib import Path

import pytest


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
    path = tmp_path_factory.mktemp("task") / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def echoes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions whose gold answer is worded like the prompts: learning the prompts must make it likelier."""
    rows = [
        {
            "question": f"the bird can fly {n} times. what can the bird do?",
            "choices": ["#7{4q~", "the bird can fly"],
            "answer": 1,
        }
        for n in range(60)
    ]
    path = tmp_path_factory.mktemp("task") / "echoes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
