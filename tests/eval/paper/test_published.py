"""The paper's figures are copied rightly: its means are means of its figures."""

import numpy as np
import pytest

from eval.paper.how_measured import PAPERS_FIGURES
from eval.paper.published import OUT_OF_DOMAIN, SIZES, Size, average, figure
from tools.detect_drift.reference import IN_DOMAIN


def test_figures_stand_for_tasks_that_the_paper_has() -> None:
    assert (figure("0.5B", "maml", "piqa"), average("1.5B", "abmll", in_domain=False)) == (67.7, 34.3)
    assert figure("0.5B", "no_meta_train", "gsm8k") is None
    assert figure("0.5B", "base", "medqa") is None
    assert (figure("0.5B", "family_TTS", "hellaswag"), figure("1.5B", "family_TTS", "hellaswag")) == (48.3, None)
    assert figure("0.5B", "family_Latent", "boolq") is None


@pytest.mark.parametrize("row", ["base", "union_train", "maml", "cao_all", "cao_stage_1"])
@pytest.mark.parametrize("size", SIZES)
def test_means_in_domain_are_those_of_the_figures(size: str, row: str) -> None:
    mean = np.mean([figure(size, row, task) for task in IN_DOMAIN])  # type: ignore[arg-type]
    assert mean == pytest.approx(average(size, row, in_domain=True), abs=0.11)  # type: ignore[arg-type]


@pytest.mark.parametrize("row", ["base", "union_train", "abmll", "maml", "cao_all", "cao_stage_1"])
@pytest.mark.parametrize("size", SIZES)
def test_means_out_of_domain_are_those_of_the_figures_or_are_named(size: Size, row: str) -> None:
    """What the paper states and its figures do not bear out is told on every page."""
    mean, stated = np.mean([figure(size, row, task) for task in OUT_OF_DOMAIN]), average(size, row, in_domain=False)
    named = any(f"{stated} ({mean:.1f}{rest}" in PAPERS_FIGURES for rest in (")", " by its tasks)"))
    assert named != (mean == pytest.approx(stated, abs=0.11))
