"""``--table all``: what one table's defect leaves of the others."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.train.engine.settings import EngineSettings
from cao.errors import InputError
from eval.options import TablesOptions
from eval.paper import command


def test_a_table_that_crashes_leaves_the_next_ones_and_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, tuple[int, ...]]] = []

    def measure(options: TablesOptions, alone: str, progress: object) -> Any:
        asked.append((alone, options.seeds))
        if options.table == "3":
            raise ZeroDivisionError("by purpose")
        raise InputError("no such task")

    monkeypatch.setattr(command, "numbers", lambda table: ())
    monkeypatch.setattr(command.adapters, "measure", measure)
    options = TablesOptions(table="all", out=tmp_path)
    told = "python -m eval.tables --table all --preset quick"
    assert command.measure(options, EngineSettings(), told, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["3", "4", "figures", "cost"]
    assert found["3"]["absent"].startswith("crashed: ZeroDivisionError: by purpose")
    alone = "python -m eval.tables --table 3 --preset quick --seeds 0"
    assert found["3"]["absent"].endswith(f"alone: {alone} --out runs/again")
    assert found["cost"]["absent"] == "no such task"
    assert asked[0] == (alone, (0,))  # the preset's seeds, in the command, too
    assert {seeds for _, seeds in asked} == {(0,)}


def test_a_crash_in_a_table_of_cells_leaves_the_others_and_alone_it_is_raised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def __init__(self, *_: object) -> None: ...

        def table(self, number: str) -> Any:
            raise ZeroDivisionError(f"by purpose in {number}")

    def measure(*_: object) -> Any:
        raise InputError("no such task")

    monkeypatch.setattr(command, "Measuring", Broken)
    monkeypatch.setattr(command.adapters, "measure", measure)
    told = "python -m eval.tables --table=all --tasks piqa"
    options = TablesOptions(table="all", out=tmp_path)
    assert command.measure(options, EngineSettings(), told, as_json=True) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert list(found) == ["2", "5", "6", "3", "4", "figures", "cost"]
    assert "alone: python -m eval.tables --table 5 --tasks piqa --out runs/again" in found["5"]["absent"]
    assert "verdicts: not written: " in err
    generate = TablesOptions(table="all", out=tmp_path, protocol="generate")
    assert command.measure(generate, EngineSettings(), told, as_json=True) == 0
    assert capsys.readouterr().err.count("verdicts: not written: ") == 2  # of either way of answering
    with pytest.raises(ZeroDivisionError, match="by purpose in 6"):
        command.measure(TablesOptions(table="6", out=tmp_path), EngineSettings(), told, as_json=True)
