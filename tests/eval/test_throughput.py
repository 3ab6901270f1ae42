"""What a second worker is worth: the figures fit together; how large they are is not a test's business."""

from pathlib import Path

import pytest

from agent.train.engine.settings import EngineSettings
from cao.errors import InputError
from eval.bench.throughput import Plan, throughput

pytestmark = pytest.mark.slow


@pytest.mark.slow
def test_both_sides_give_the_same_answers_and_the_ratio_is_of_their_seconds(tiny_model_folder: Path) -> None:
    plan = Plan("qwen2.5-0.5b", str(tiny_model_folder), cells=3, questions=4, repetitions=1)
    found = throughput(EngineSettings(), plan)
    assert found["equal"]
    assert set(found["seconds"]) == set(found["cpu_seconds"]) == {"1", "2"}
    [one], [two] = found["seconds"]["1"], found["seconds"]["2"]
    assert found["ratios"] == [one / two]
    assert found["ratio"] == one / two > 0
    assert all(value > 0 for side in found["cpu_seconds"].values() for value in side)
    assert (found["engine"], found["cells"], found["questions"], found["threads"]) == ("local", 3, 4, 1)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(model="gpt"), "no model is called 'gpt'"),
        (Plan(task="nothing"), "no task 'nothing'"),
        (Plan(questions=10**6), "too few questions"),
    ],
)
def test_what_cannot_be_measured_is_refused(plan: Plan, words: str) -> None:
    with pytest.raises(InputError, match=words):
        throughput(EngineSettings(), plan)
