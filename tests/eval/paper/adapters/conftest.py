"""A made benchmark, and a shelf of trained parts for the tiny model."""

import pytest

from eval.bench.adapter import AdapterResult, Recipe
from eval.bench.measure import Machine


@pytest.fixture
def made_bench() -> AdapterResult:
    machine = Machine(
        cpu="made", cores=1, threads=1, torch="0", load_before=0.0, rates="", faster="float32", switched_off={}
    )
    return AdapterResult(
        bench="adapter",
        machine=machine,
        repetitions=3,
        task="made",
        prompts=32,
        recipe=Recipe(steps=3, batch=8),
        measured_steps=2,
        time_ratio=6.0,
        noisy=[],
        spread=0.0,
        flop_ratio=60.0,
        seconds={"all": 2.0, "training": 12.0},
        flops={"all": 1e8, "training": 6e9},
    )
