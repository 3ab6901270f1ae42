"""What a second worker is worth: the figures fit together; how large they are is not a test's business."""

from pathlib import Path

import pytest

from agent.train.engine.settings import EngineSettings
from cao.errors import InputError
from eval.bench.engine import bench
from eval.bench.options import EngineBench
from tests.eval.bench.parts import check

pytestmark = pytest.mark.slow


@pytest.mark.slow
def test_both_sides_give_the_same_answers_and_the_ratio_is_of_their_seconds(tiny_model_folder: Path) -> None:
    model = {"model": "qwen2.5-0.5b", "model_path": str(tiny_model_folder), "dtype": "float32", "offline": True}
    result = bench(EngineBench(**model, cells=3, limit=4, repetitions=1), EngineSettings())
    check(result)
    assert result.equal
    assert set(result.seconds) == set(result.cpu_seconds) == {"1", "2"}
    [one], [two] = result.seconds["1"], result.seconds["2"]
    assert result.ratios == [one / two]
    assert result.ratio == pytest.approx(one / two, abs=1e-4)
    assert all(value > 0 for side in result.cpu_seconds.values() for value in side)
    assert (result.engine, result.cells, result.questions, result.threads) == ("local", 3, 4, 1)
    assert dict(result.lines())["same answers"] == "yes"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (EngineBench(model="gpt"), "unknown model 'gpt'"),
        (EngineBench(task="nothing"), "no task is called 'nothing'"),
        (EngineBench(limit=10**6), "too few questions"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: EngineBench, words: str) -> None:
    with pytest.raises(InputError, match=words):
        bench(options, EngineSettings())
