"""A run of the library that adopts what test-time training makes, calibrated by its batch, and what it scored."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cao import adapt
from tests.agent.run.tiny_runs import TTL, echo_rows, strategies

BETTER = {**TTL, "ttl_steps": 10, "learning_rate": 3e-3}


@dataclass
class Made:
    """A finished run, what was told of it, and the options that load its base model."""

    run: Any
    base: dict[str, Any]
    steps: list[Any] = field(default_factory=list)

    def questions(self) -> list[dict[str, Any]]:
        """The test questions as the run kept them, in the order of its answers."""
        kept = [json.loads(line) for line in (self.run.folder / "items/questions.jsonl").read_text().splitlines()]
        return [one for one in kept if one["part"] == "test"]

    def scored(self) -> list[tuple[int, list[float]]]:
        """What the adopted model answered to them, with the scores."""
        lines = (self.run.folder / "items/test-adapted.jsonl").read_text().splitlines()
        return [(one["choice"], one["scores"]) for one in map(json.loads, lines)]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Made:
    out = tmp_path_factory.mktemp("runs")
    base = {"model": "qwen2.5-0.5b", "model_path": tiny_model_folder, "dtype": "float32", "offline": True}
    steps: list[Any] = []
    run = adapt(
        questions=echo_rows(),
        policy="fixed",
        policy_settings={"strategy_file": str(strategies(out, BETTER))},
        support=8,
        reward=24,
        test=12,
        accept="any",
        out=out,
        progress=steps.append,
        **base,
    )
    return Made(run, base, steps)
