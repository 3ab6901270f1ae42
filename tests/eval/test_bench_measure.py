"""How figures are made: medians, spreads, refusals, exponents, operations; all by hand."""

import json
import math

import pytest
import torch
from torch import nn

from cao.errors import InputError
from cao.inference.scoring import plan_row
from cao.model.language_model import LanguageModel
from cao.types import Branch, Query
from eval.bench import flops, measure, page
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
    assert ("2.00" in found.told()) != noisy
    assert ("too noisy" in found.told()) == noisy


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
    told = measure.describe(measure.machine())
    assert "cores" in told
    assert torch.__version__ in told


# operations ----------------------------------------------------------------------------------------------------------


def test_only_weights_of_products_count() -> None:
    module = nn.Sequential(nn.Embedding(100, 4), nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2, bias=False))
    assert flops.linear_parameters(module) == 4 * 3 + 3 * 2


def test_a_question_is_counted_by_hand(tiny_lm: LanguageModel) -> None:
    """Prompt of P tokens, branches of b tokens: P(P+1)/2 + Σ (bP + b(b+1)/2) pairs, the prompt's end shared."""
    query = Query(prefix="Question: Why?\nAnswer:", branches=(Branch(scored=" the bird"), Branch(scored=" to sleep")))
    row = plan_row(tiny_lm, query)
    prompt, lengths = row.prompt, [span.end - span.start for span in row.spans]
    pairs = prompt * (prompt + 1) // 2 + sum(b * prompt + b * (b + 1) // 2 for b in lengths)
    assert flops.attention_pairs(row) == pairs
    assert [span.scored for span in row.spans] == [span.start for span in row.spans]
    positions = sum(lengths) - 1  # the first tokens of both answers are predicted at one place
    assert flops.head_positions(row) == positions
    attention = 2 * 2 * 32 * 32 + 2 * 2 * 32 * 16  # q and o, k and v (2 of 4 heads) of two layers
    trunk = attention + 2 * 3 * 32 * 64
    vocabulary = 32 * tiny_lm.head.weight.shape[0]
    wanted = 2 * trunk * len(row.tokens) + 2 * vocabulary * positions + pairs * 2 * (2 * 2 * 32)
    assert flops.scoring_flops(tiny_lm, [row]) == wanted
    assert flops.scoring_flops(tiny_lm, [row, row]) == 2 * wanted


def test_the_rate_is_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops, "SHAPES", ((8, 8, 8),))
    assert flops.matmul_rate(torch.bfloat16, least_s=0.0) > 0


# page ----------------------------------------------------------------------------------------------------------------


def test_a_section_of_the_page_is_replaced_alone() -> None:
    old = "before\n<!-- bench:latent -->\nold\n<!-- /bench:latent -->\nafter\n"
    text = page.section("python -m eval.bench latent", "a machine.", [("ratio", "2.00")])
    new = page.replaced(old, "latent", text)
    assert new.startswith("before\n<!-- bench:latent -->\n```\npython -m eval.bench latent\n```\n")
    assert new.endswith("| ratio | 2.00 |\n<!-- /bench:latent -->\nafter\n")
    assert page.replaced(new, "latent", text) == new
    with pytest.raises(InputError, match="no place for growth"):
        page.replaced(old, "growth", text)


def test_the_page_has_a_place_for_every_benchmark() -> None:
    from eval.bench.command import BENCHES, SUMMARIES

    assert set(BENCHES) == set(SUMMARIES)
    text = page.PAGE.read_text(encoding="utf-8")
    for name in BENCHES:
        for kind in ("",) if name in page.ONE_KIND else (":float32", ":bfloat16"):
            page.replaced(text, f"{name}{kind}", "")


def test_a_figure_is_json() -> None:
    assert json.dumps([figure([1.0, 2.0, 3.0]).stated, Figure(1, math.inf).stated], allow_nan=False)
