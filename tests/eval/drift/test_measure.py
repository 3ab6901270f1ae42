"""The drift table on made-up tasks: levels, powers and kinds that are known beforehand, and a page that shows them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cao.progress import silent
from eval.drift import levels, reports, streams
from eval.drift.page import aims, write_page
from eval.drift.prompts import UNKNOWN, Pool, questions
from eval.drift.results import DriftResult, Signals, Speed
from eval.drift.windows import ARC, Windows, share
from eval.tables import main
from tools.detect_drift.known_tasks import Reference
from tools.detect_drift.reference import IN_DOMAIN

pytestmark = pytest.mark.slow


def cloud(seed: int, n: int, direction: int) -> Tensor:
    points = torch.randn(n, 16, generator=torch.Generator().manual_seed(seed))
    points[:, direction] += 6
    return torch.nn.functional.normalize(points, dim=1)


@pytest.fixture
def windows() -> Windows:
    """Ten tasks in ten directions, six of them known."""
    names = (*IN_DOMAIN, *UNKNOWN)
    references = {name: Reference(cloud(i, 200, i)) for i, name in enumerate(IN_DOMAIN)}
    pool = {name: Pool([f"{name} {row}" for row in range(300)], cloud(100 + i, 300, i)) for i, name in enumerate(names)}
    return Windows(references, pool, 60, 0, np.random.default_rng(0), silent)


def test_rate_has_a_wilson_interval() -> None:
    found = share([True] * 8 + [False] * 2)
    assert (found.rate, found.windows) == (0.8, 10)
    assert found.ci95 == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


def test_every_measurement_finds_what_is_known_and_the_page_shows_it(windows: Windows, tmp_path: Path) -> None:
    measured = {
        "command": "python -m eval.tables --table drift",
        "windows": 60,
        "seed": 0,
        "false_alarms": levels.false_alarms(windows),
        "redrawn": levels.redrawn_references(windows),
        "power": levels.power(windows),
        "kinds": reports.kinds(windows),
        "nearest": reports.nearest(windows),
        "stream": streams.stream(windows),
        "signals": [
            Signals(n=n, origin=origin, test=test, **dict(share([n == 64, True])))
            for n in (16, 32, 64)
            for origin in ARC
            for test in ("prompts alone", "signals alone", "together")
        ],
        "speed": [Speed(task="piqa", ratio=1.3, p90=1.5, encoding_s=0.2, repeats=3)],
    }
    result = DriftResult.model_validate(measured)
    level = [row.rate for row in result.false_alarms if (row.level, row.test) == (0.05, "together")]
    assert max(level) < 0.2
    full = [row for row in result.power if (row.share, row.level, row.test) == (1.0, 0.05, "together")]
    assert [row.n for row in full] == [8, 16, 32, 64]
    assert all(row.rate == row.worst.rate == row.arc.rate == 1.0 for row in full)
    assert result.kinds["another known task"] == {"covariate": 1.0}
    assert result.kinds["an unknown task"] == {"domain_transfer": 1.0}
    assert result.kinds["25 % from a known task"]["covariate"] >= 0.8
    assert all(row.rate > 0.99 for row in result.nearest)
    assert all(row.lower95 > 1000 for row in result.stream.run_length.values())
    assert result.stream.delay["1.0"].median <= 5
    page = write_page(result, tmp_path).read_text()
    reached = {aim: ok for aim, _, ok in aims(result)}
    assert len(reached) == 14
    assert not reached["a report on 32 prompts at most 1.2 times encoding them"]
    assert page.count("**missed**") == sum(not ok for ok in reached.values())
    assert page.count("| reached |") == sum(reached.values())
    assert (tmp_path / "drift.svg").read_text().startswith("<?xml")
    assert DriftResult.model_validate_json((tmp_path / "drift.json").read_bytes()) == result
    picture = (tmp_path / "drift.svg").read_bytes()
    write_page(result, tmp_path)
    assert (tmp_path / "drift.svg").read_bytes() == picture


@pytest.mark.integration
def test_no_prompt_of_the_table_is_in_a_train_part() -> None:
    from cao.tasks import get_task
    from cao.tasks.splits import part

    for task in ("winogrande", "piqa"):
        asked = questions(task, 0)
        assert 300 < len(asked) <= 1000
        train = {example.group for example in part(get_task(task), "train")}
        assert not train & {example.group for example in asked}
        assert len({example.group for example in asked}) == len(asked)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--table", "drift", "--seed", "-1"], "--seed -1"),
        (["--table", "drift", "--only", "spede"], "no measurement is called spede"),
        (["--table", "drift", "--only", "speed", "--out", "nowhere"], "--only needs a drift.json"),
    ],
)
def test_missing_arguments_exit_2(capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str) -> None:
    assert main(arguments) == 2
    assert reason in capsys.readouterr().err
