"""A tiny model with what was trained for it: enough to make every cell of the paper's tables."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent import consolidate
from eval import tables
from tests.agent.tiny_pretrained import MODEL
from tests.agent.train.generator.tiny_consolidation import FOLDER, command

TASKS = ("arc_easy", "social_iqa")
CALIBRATE = '{"family": "Calibrate", "prior": "none", "strength": 0.0, "length": "token"}'
LATENT = '{"family": "Latent", "slot_steps": 1, "slot_lr": 0.1}'


@dataclass
class Place:
    """Where tables of the tiny model are made."""

    folder: Path
    model: Path
    pretrained: Path

    def arguments(self, table: str, *more: str) -> list[str]:
        sizes = ("--tasks", ",".join(TASKS), "--limit", "8", "--reward", "48", "--seeds", "0,1")
        where = ("--work", str(self.folder / "work"), "--out", str(self.folder / "pages"))
        model = ("--model", MODEL, "--set", f"model_path={self.model}", "--pretrained", str(self.pretrained))
        strategies = self.folder / "strategies.jsonl"
        strategies.write_text(f"{CALIBRATE}\n{LATENT}\n")
        policy = ("--policy", "fixed", "--set", f"policy_settings.strategy_file={strategies}")
        return ["--table", table, *sizes, *where, *model, *policy, "--dtype", "float32", "--offline", *more]

    def call(self, table: str, *more: str) -> int:
        return tables.main(self.arguments(table, *more))

    def result(self, name: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.folder / "pages" / f"{name}.json").read_text())
        return read


@pytest.fixture
def place(tiny_model_folder: Path, tiny_shelf: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, tiny_model_folder, tiny_shelf)


@pytest.fixture(scope="session")
def tiny_consolidation(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished consolidation of two sources on the tiny model."""
    out = tmp_path_factory.mktemp("consolidation")
    assert consolidate.main(command(tiny_model_folder, out)) == 0
    return out / FOLDER
