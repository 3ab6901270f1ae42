"""A kill without warning costs the cell that is at work, and the same command goes on."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.agent.tiny_pretrained import ROOT
from tests.eval.paper.conftest import Place

LEAST = 2
"""Cells that are there when the process is killed."""


def cells(folder: Path) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for path in sorted((folder / "work" / "cells").glob("*/*/*.json"))  # below them folders come and go
        if path.name.count("-") == 2
    }


@pytest.mark.slow
def test_a_killed_table_keeps_its_cells(place: Place, tiny_model_folder: Path) -> None:
    arguments = place.arguments("6", "--seeds", "0", "--tasks", "social_iqa")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "eval.tables", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 400
        while process.poll() is None and len(cells(place.folder)) < LEAST:
            assert time.monotonic() < deadline, "no cell came"
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    before = cells(place.folder)
    assert process.returncode == -9
    assert LEAST <= len(before) < 5
    assert not (place.folder / "pages" / "table6.json").exists()
    assert place.call("6", "--seeds", "0", "--tasks", "social_iqa") == 0
    after = cells(place.folder)
    assert {path: after[path] for path in before} == before
    assert len(after) == 5
    assert set(place.result("table6")["rows"]["cao_all"]["cells"]) == {"social_iqa"}
