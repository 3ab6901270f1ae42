"""What the processor does, in processes of their own. No time is asserted."""

import json
import tempfile

import pytest

from eval.bench import command, processor
from tests.eval.bench.parts import check


def test_the_processor_bench_runs_processes_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {"float32": 2e9, "bfloat16": 1e9, "least_gain": 0.5, "noisy": False}
    probe = json.dumps({"first_s": 0.1, "again_s": 0.0, "rates": rates})

    def of(program: str, **environment: str) -> str:
        return probe if program is processor.PROBE else json.dumps({"rate": 2.0 if environment else 3.0})

    monkeypatch.setattr(processor, "printed", of)
    assert command.main(["processor", "--repetitions", "2", "--json"]) == 0
    result = processor.ProcessorResult.model_validate_json(capsys.readouterr().out)
    check(result)
    assert result.ours_over_spinning_idle.median == 1.5
    assert result.probe_s == 0.1
    assert dict(result.lines())["float32 products"] == "2 GFLOP/s"


@pytest.mark.slow
def test_the_probe_takes_place_once() -> None:
    with tempfile.TemporaryDirectory() as folder:
        probe = processor.Probe.model_validate_json(processor.printed(processor.PROBE, XDG_CACHE_HOME=folder))
    assert probe.rates.float32 > 0
    assert probe.again_s < probe.first_s or probe.rates.noisy
