"""The command on a tiny model: its prompts, and what it prints."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.generate import main

PROMPTS = [f"How many wings have {n} birds?" for n in range(6)]


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def make(capsys: pytest.CaptureFixture[str], argv: list[str]) -> dict[str, Any]:
    code = main([*argv, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    found: dict[str, Any] = json.loads(captured.out)
    return found
