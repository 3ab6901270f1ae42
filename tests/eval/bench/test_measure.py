"""How figures are made: medians, spreads, refusals, exponents; all by hand."""

import json
import math

import pytest
import torch

from eval.bench import measure
from eval.bench.measure import Figure, alternate, exponent, figure, geometric_mean, ratio, relative_range


def test_the_spread_is_the_interquartile_range_over_the_median() -> None:
    """1…5 have quartiles 2 and 4 and median 3."""
    assert relative_range([5.0, 1.0, 4.0, 2.0, 3.0]) == pytest.approx(2 / 3)
    assert relative_range([7.0]) == 0.0
    assert relative_range([-1.0, 0.0, 1.0]) == math.inf


def test_a_ratio_is_of_medians_and_its_spread_of_the_pairs() -> None:
    """Both sides slow down together in the third repetition, so that their ratio does not scatter."""
    found = ratio([4.0, 4.0, 40.0, 4.0, 4.0], [2.0, 2.0, 20.0, 2.0, 2.0])
    assert found == Figure(2.0, 0.0)
    assert ratio([6.0, 4.0, 2.0], [2.0, 2.0, 2.0]) == Figure(2.0, pytest.approx(0.5))


@pytest.mark.parametrize(("spread", "noisy"), [(0.0, False), (0.25, False), (0.26, True), (math.inf, True)])
def test_no_figure_is_stated_where_the_spread_is_too_wide(spread: float, noisy: bool) -> None:
    found = Figure(2.0, spread)
    assert found.noisy == noisy
    assert found.stated == (None if noisy else 2.0)
    assert ("2.00" in found.text()) != noisy
    assert ("too noisy" in found.text()) == noisy


def test_a_spread_that_is_not_a_number_is_noisy() -> None:
    assert Figure(2.0, math.nan).noisy


def test_the_geometric_mean_is_none_where_a_figure_is() -> None:
    assert geometric_mean([Figure(1.0, 0), Figure(4.0, 0)]) == pytest.approx(2.0)
    assert geometric_mean([Figure(1.0, 0), Figure(4.0, 0.3)]) is None
    assert geometric_mean([]) is None


def test_sides_take_turns() -> None:
    seen: list[str] = []
    found = alternate({"ours": lambda: seen.append("o"), "theirs": lambda: seen.append("t")}, 3)
    assert "".join(seen) == "ototot"
    assert [len(values) for values in found.values()] == [3, 3]
    assert all(value >= 0 for values in found.values() for value in values)


def test_an_exponent_is_the_slope_of_the_logarithms() -> None:
    sizes = [1, 2, 4, 8]
    assert exponent(sizes, [3 * size**2 for size in sizes]) == (pytest.approx(2), pytest.approx(0, abs=1e-6))
    assert exponent([1, 10], [5, 5]) == (pytest.approx(0), 0.0)
    slope, error = exponent([1, math.e, math.e**2], [1, math.e**2, math.e**2])  # logarithms 0, 2, 2 over 0, 1, 2
    assert slope == pytest.approx(1)  # rests −1/3, 2/3, −1/3: their squares sum to 2/3
    assert error == pytest.approx(math.sqrt((2 / 3) / 1 / 2))


def test_the_peak_is_what_was_held_at_most() -> None:
    def body() -> None:
        held = torch.ones(2**24)  # 64 MB, given back at the end
        held.add_(1)

    body()
    found = measure.peak_bytes(body)
    assert found is None or 60 * 2**20 < found < 100 * 2**20
    assert (measure.peak_bytes(lambda: None) or 0) < 10 * 2**20


def test_the_machine_is_described() -> None:
    machine = measure.machine()
    assert "cores" in machine.sentence
    assert torch.__version__ in machine.sentence
    assert ("gpu" in machine.model_dump()) == (machine.gpu is not None)


def test_a_figure_is_json() -> None:
    assert json.dumps([figure([1.0, 2.0, 3.0]).stated, Figure(1, math.inf).stated], allow_nan=False)
