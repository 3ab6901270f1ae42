"""A section of the page of benchmarks, between its markers."""

import pytest

from cao.errors import InputError
from eval.bench import page


def test_a_section_of_the_page_is_replaced_alone() -> None:
    old = "before\n<!-- bench:latent -->\nold\n<!-- /bench:latent -->\nafter\n"
    text = page.section("python -m eval.bench latent", "a machine.", [("ratio", "2.00")])
    new = page.replaced(old, "latent", text)
    assert new.startswith("before\n<!-- bench:latent -->\n```\npython -m eval.bench latent\n```\n")
    assert new.endswith("| ratio | 2.00 |\n<!-- /bench:latent -->\nafter\n")
    assert page.replaced(new, "latent", text) == new
    with pytest.raises(InputError, match="no place for growth"):
        page.replaced(old, "growth", text)


def test_the_page_has_a_place_for_every_benchmark_that_can_be_written() -> None:
    from eval.bench.command import BENCHES
    from eval.bench.measurements import MEASUREMENTS
    from eval.bench.size.configurations import SIZES

    assert set(BENCHES) == set(MEASUREMENTS)
    text = page.PAGE.read_text(encoding="utf-8")
    for name in (name for name, (options, _) in BENCHES.items() if "write" in options.model_fields):
        kinds = SIZES if name == "size" else ("float32", "bfloat16")
        for place in (name,) if name in page.ONE_KIND else (f"{name}:{kind}" for kind in kinds):
            page.replaced(text, place, "")
