"""The load test on the tiny model: real servers, nothing lost, a swap seen; and what counts as lost."""

from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from cao.progress import silent
from eval.bench.measure import machine
from eval.bench.options import ServingBench
from eval.bench.serving import measure
from eval.bench.serving.load import Question, ask, body
from eval.bench.serving.measure import ServingResult, Side, Swap


def test_requests_are_mixed_and_each_is_one_that_the_api_knows() -> None:
    kinds = [body(number, Question("q", ("a", "b"))) for number in range(4)]
    assert [path for path, _ in kinds] == [
        f"/{kind}" for kind in ("chat/completions", "completions", *["chat/completions"] * 2)
    ]
    assert [bool(sent.get("stream")) for _, sent in kinds] == [False, False, True, False]
    assert kinds[3][1]["choices"] == ["a", "b"]


def test_a_server_that_is_not_there_loses_every_request() -> None:
    replies = ask("http://127.0.0.1:9/v1", [Question("q", ("a", "b"))] * 5, clients=2)
    assert [reply.lost for reply in replies] == ["ConnectError"] * 5


def test_the_figures_are_told_with_what_was_lost() -> None:
    side = Side(p50=1.0, p95=2.0, means=(1.0, 1.0), cpu=(3.0, 3.0), lost=0)
    dearer = side.model_copy(update={"means": (1.04, 1.04), "cpu": (3.03, 3.03), "lost": 1, "watching": 0.06})
    swap = Swap(requests=12, lost=0, answered={"base": 7, "arc_easy": 5}, p50=1.0, p95=3.0)
    told = {"bench": "serving", "machine": machine(), "repetitions": 2, "model": "tiny", "clients": 4, "requests": 8}
    result = ServingResult.model_validate({**told, "plain": side, "watched": dearer, "swap": swap})
    lines = dict(result.lines())
    assert lines["mean latency, with / without"].startswith("1.040")
    assert lines["processor time, with / without"].startswith("1.010")
    assert lines["the detector's thread, of the rest"].startswith("1.0%")
    assert "lost 1" in lines["with the watcher"]
    assert lines["a swap in the middle"].startswith("12 requests, lost 0; answered by base 7, arc_easy 5")


@pytest.mark.slow
@pytest.mark.integration
def test_nothing_is_lost_and_another_model_answers_behind_the_drift(tiny_model_folder: Path) -> None:
    told = {"model": "qwen2.5-0.5b", "model_path": str(tiny_model_folder), "dtype": "float32", "offline": True}
    options = ServingBench.model_validate({**told, "repetitions": 2, "clients": 16, "requests": 48})
    result = measure.bench(options, silent)
    assert (result.plain.lost, result.watched.lost, result.swap.lost) == (0, 0, 0)
    assert set(result.swap.answered) == {"base", "arc_easy"}
