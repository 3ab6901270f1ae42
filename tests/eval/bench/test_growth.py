"""What grows, and how it is fitted. No time is asserted."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cao.model.language_model import LanguageModel
from eval.bench import page
from eval.bench.growth import axes as growth_axes
from eval.bench.growth import measure as growth
from eval.bench.growth.measure import Axis
from tests.eval.bench.parts import PROMPTS, check, subject
from tests.tools.tiny_training import TINY_ALIGNER


def test_an_axis_is_fitted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fixed(bodies: Mapping[str, Callable[[], object]], repetitions: int, *, device: str) -> dict[str, list[float]]:
        return {size: [0.01 * int(size) ** 2] * repetitions for size in bodies}

    monkeypatch.setattr(growth, "alternate", fixed)
    result = growth.bench([Axis("things", "doing nothing", (1, 2, 4), lambda size: lambda: None, 2.0)], repetitions=3)
    check(result)
    assert result.exponents == {"things": 2.0}
    assert result.axes["things"].seconds == [0.01, 0.04, 0.16]
    assert "exponent 2.00" in result.lines()[0][1]
    picture = tmp_path / "growth.svg"
    page.draw_growth(result, picture)
    assert picture.read_text().startswith("<?xml")


def test_every_axis_works_at_every_size(tiny_lm: LanguageModel) -> None:
    preset = TINY_ALIGNER.model_copy(update={"meta_epochs": 1, "vector_prompts": 2})
    one = subject()
    axes = [
        growth_axes.questions_axis(tiny_lm, one.task, one.examples, (2, 4, 100)),
        growth_axes.length_axis(tiny_lm, " ".join(PROMPTS), (8, 16)),
        *growth_axes.adapter_axes(tiny_lm, (1, 2), (1, 2), (1, 2), preset),
        growth_axes.drift_axis((2, 3), permutations=9),
    ]
    assert axes[0].sizes == (2, 4)
    assert axes[2].sizes[1] == 2 * axes[2].sizes[0]
    result = growth.bench(axes, repetitions=1)
    check(result)
    assert len(result.axes) == len(result.lines()) == 6
