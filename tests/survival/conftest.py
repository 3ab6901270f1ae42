"""What the tests of survival share: short versions by default, the full counts by ``--long=1``."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.run import main
from tests.agent import tiny_pretrained
from tests.agent.run.generated.generated_runs import RIGHT
from tests.agent.run.tiny_runs import LATENT, SIZES, TTL, TTS, echo_rows, strategies, write_rows
from tests.survival.deaths import Passed, lived


@pytest.fixture(scope="session")
def many(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Choose between the short and the full count, or the share of that which ``--long`` says."""
    share: float = request.config.getoption("--long")
    return lambda few, full: max(few, round(share * full)) if share else few


@pytest.fixture
def only_long(request: pytest.FixtureRequest) -> None:
    """Skip what takes long even in its short version, unless ``--long`` is given."""
    if not request.config.getoption("--long"):
        pytest.skip("takes --long=SHARE")


FIGURES: list[str] = []


@pytest.fixture(scope="session")
def figure() -> Callable[[str], None]:
    """Tell a figure at the end of the session."""
    return FIGURES.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures, as the page on survival quotes them."""
    for line in FIGURES:
        terminalreporter.write_line(line)


@dataclass
class Whole:
    """A run that nothing disturbed.

    Attributes:
        argv: how runs are started here, less ``--out``.
        folder: its own.
        record: its run.json.
        seconds: of processor time that its process took.
        windows: that it went through.
        model: the tiny model's folder.
    """

    argv: list[str]
    folder: Path
    record: dict[str, Any]
    seconds: float
    windows: int
    model: Path


@pytest.fixture(scope="session")
def whole(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A run of every family on birds, with a generated adapter; every strategy that measures better is adopted."""
    folder = tmp_path_factory.mktemp("whole")
    lm = tiny_pretrained.load(tiny_model_folder)
    good = tiny_pretrained.learned(lm, RIGHT)
    shelf = tiny_pretrained.shelve(folder / "shelf", lm, {"full": good}, {"full": ["arc_easy"]}).parent
    questions = write_rows(folder / "birds.jsonl", echo_rows())
    plan = strategies(folder, "no strategy", {**TTL, "ttl_steps": 5, "learning_rate": 1e-6}, TTS, LATENT)
    argv = ["--task", str(questions), *SIZES, "--model", "qwen2.5-0.5b", "--policy", "fixed", "--offline"]
    argv += ["--set", f"model_path={tiny_model_folder}", "--set", f"policy_settings.strategy_file={plan}"]
    argv += ["--max-attempts", "4", "--accept", "any", "--until", "budget", "--pretrained", str(shelf)]
    assert lived(main, [*argv, "--out", str(folder / "runs")], passed=folder / "passed") == 0
    passed = Passed.read(folder / "passed")
    [made] = (folder / "runs").iterdir()
    record = json.loads((made / "run.json").read_text())
    return Whole(argv, made, record, passed.seconds, passed.windows, tiny_model_folder)


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    """A generator of its own for each test, the same in every session."""
    return random.Random(request.node.name)
