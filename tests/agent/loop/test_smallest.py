"""The smallest change that a run says it could have seen follows from the comparisons that it made."""

import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.loop.conclude import _smallest
from cao.types import Item, Reward, Trial
from tools.evaluate import save_items
from tools.evaluate.statistics import smallest_detectable

REWARD = Reward(score=0.5, ci95=(0.0, 1.0), margin=0.0, loss=1.0, gold_nll_per_char=1.0, n=4)


def items(*losses: float) -> list[Item]:
    return [Item(id=f"q{n}", correct=True, loss=loss) for n, loss in enumerate(losses)]


def test_an_accepted_attempt_is_held_against_the_best_before_it(tmp_path: Path) -> None:
    moved, small = (2.0, 0.0, 2.0, 0.0), (1.9, 0.0, 1.9, 0.1)
    (tmp_path / "items").mkdir()
    for name, losses in {
        "base": (3.0, 3.0, 3.0, 3.0),
        "attempt-1": moved,
        "attempt-2": moved,
        "attempt-3": small,
    }.items():
        save_items(tmp_path / "items" / f"{name}.jsonl", items(*losses))
    trials = [
        Trial(attempt=number, accepted=accepted, reason="", reward=REWARD)
        for number, accepted in ((1, True), (2, False), (3, True))
    ]
    state: Any = {"start": "base", "trials": trials, "starts": {}}
    bench: Any = SimpleNamespace(folder=tmp_path)
    steps = [
        statistics.stdev(b - a for a, b in zip(*pair, strict=True)) for pair in (((3.0,) * 4, moved), (moved, small))
    ]
    found = _smallest(bench, state)
    assert found.loss == pytest.approx(smallest_detectable(statistics.median(steps), 4))
    last: Any = {**state, "trials": trials[2:]}
    assert found.loss < _smallest(bench, last).loss  # held against the start, the second step would hold the first, too
