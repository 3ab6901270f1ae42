"""What a process computes in: the rates decide, they are kept, and a disturbed measurement decides with care."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cao.errors import InputError
from cao.machine import compute
from cao.machine.compute import Rates, choose_compute, measure_rates, processor_rates, settled


def rates(float32: float = 1.0, bfloat16: float = 2.0, least_gain: float = 2.0, noisy: bool = False) -> Rates:
    return Rates(float32=1e9 * float32, bfloat16=1e9 * bfloat16, least_gain=least_gain, noisy=noisy)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cao-llm" / "rates"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Rates]]:
    """What the next measurements say; one that nobody asked for is an error."""
    waiting: list[Rates] = []
    monkeypatch.setattr(compute, "measure_rates", lambda: waiting.pop(0))
    yield waiting
    assert not waiting


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (rates(float32=1, bfloat16=8), "bfloat16"),
        (rates(float32=8, bfloat16=1, least_gain=0.1), "float32"),
        (rates(float32=1, bfloat16=1.1), "float32"),  # as fast: the more exact one
        (rates(float32=1, bfloat16=8, least_gain=0.9, noisy=True), "float32"),  # not surely faster
        (rates(float32=1, bfloat16=8, least_gain=1.5, noisy=True), "bfloat16"),  # won every round
    ],
)
def test_the_faster_one_is_taken_and_after_noise_only_a_sure_one(found: Rates, expected: str) -> None:
    assert found.faster == expected


def test_this_processor_is_measured() -> None:
    found = measure_rates()
    assert found.float32 > 1e8
    assert found.bfloat16 > 1e7
    assert ("other load" in found.sentence()) == found.noisy


def test_rates_are_kept_for_this_kind_of_processor(cache: Path, measured: list[Rates]) -> None:
    measured.append(rates())
    assert processor_rates() == rates()
    assert processor_rates() == rates()  # nothing is measured again
    (file,) = cache.iterdir()
    assert json.loads(json.loads(file.read_text())["key"])["torch"] == str(torch.__version__)


def test_other_threads_or_switches_are_measured_by_themselves(
    cache: Path, measured: list[Rates], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured += [rates(), rates(float32=9, bfloat16=1, least_gain=0.1)]
    processor_rates()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert processor_rates().faster == "float32"
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("content", ["", "{", '{"key": "another processor", "rates": null}', '{"rates": 1}'])
def test_a_damaged_file_or_another_processors_is_measured_over(
    cache: Path, measured: list[Rates], content: str
) -> None:
    measured += [rates(), rates(float32=5)]
    processor_rates()
    (file,) = cache.iterdir()
    file.write_text(content)
    assert processor_rates() == rates(float32=5)
    assert processor_rates() == rates(float32=5)


def test_another_processors_rates_under_our_name_are_not_believed(cache: Path, measured: list[Rates]) -> None:
    measured += [rates(), rates(float32=5)]
    processor_rates()
    (file,) = cache.iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), "key": "{}"}))
    assert processor_rates() == rates(float32=5)


def test_a_busy_machine_does_not_choose_anew_in_each_process(cache: Path, measured: list[Rates]) -> None:
    first, second = rates(noisy=True), rates(least_gain=0.5, noisy=True)
    measured += [
        first,
        second,
        rates(float32=3),
    ]
    assert processor_rates() == first
    assert processor_rates() == first  # measured again, disturbed again: the first stays
    assert processor_rates() == rates(float32=3)  # undisturbed
    assert processor_rates() == rates(float32=3)


def test_what_is_asked_for_is_taken(cache: Path, measured: list[Rates]) -> None:
    measured.append(rates())
    found = {asked: choose_compute(asked) for asked in compute.DTYPES}
    assert {asked: each.dtype for asked, each in found.items()} == {
        "auto": "bfloat16",
        "float32": "float32",
        "bfloat16": "bfloat16",
    }
    assert found["auto"].dtype == "bfloat16"
    assert found["auto"].threads == torch.get_num_threads()
    assert "2 GFLOP/s" in found["auto"].reason
    with pytest.raises(InputError, match="known: auto, float32, bfloat16"):
        choose_compute("float16")  # type: ignore[arg-type]


def test_work_that_was_begun_keeps_its_dtype(cache: Path, measured: list[Rates]) -> None:
    measured.append(rates())
    assert settled("auto", "cpu") == "bfloat16"
    assert settled("auto", "cpu", "float32") == "float32"
    assert settled("bfloat16", "cpu", "float32") == "bfloat16"  # refused by whoever compares the two
    assert settled("auto", "cpu", "nonsense") == "bfloat16"


@pytest.mark.parametrize(("able", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_an_accelerator_computes_in_bfloat16_where_it_has_it(
    monkeypatch: pytest.MonkeyPatch, able: bool, dtype: str
) -> None:
    monkeypatch.setattr(compute, "device_has_bfloat16", lambda device: able)
    found: Any = choose_compute("auto", "cuda:0")
    assert (found.dtype, found.rates) == (dtype, None)
    assert choose_compute("float32", "cuda:0").dtype == "float32"
    if not able:
        with pytest.raises(InputError, match="cuda:0 cannot compute in bfloat16; run with --dtype float32"):
            choose_compute("bfloat16", "cuda:0")
