"""When feedback takes a model back: soon where it is bad, and hardly ever where it is as good as what was there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.server.adaptation.evidence import FRACTIONS, ROLLED_BACK, Evidence


def run(level: float, right: float, n: int, seed: int) -> Evidence:
    evidence = Evidence(level=level)
    for correct in np.random.default_rng(seed).random(n) < right:
        evidence = evidence.told(correct=bool(correct))
        if evidence.worse:
            break
    return evidence


@pytest.mark.parametrize("level", [0.3, 0.6, 0.9])
def test_one_in_twenty_models_that_are_no_worse_is_taken_back_at_most(level: float) -> None:
    assert sum(run(level, level, 200, seed).worse for seed in range(100)) <= 10  # 5 are expected at most


@pytest.mark.parametrize(("level", "right", "within"), [(0.9, 0.3, 30), (0.6, 0.1, 60), (0.5, 0.0, 12)])
def test_a_worse_model_is_taken_back_soon(level: float, right: float, within: int) -> None:
    assert all(run(level, right, within, seed).worse for seed in range(20))


@given(level=st.floats(0, 1), told=st.lists(st.booleans(), max_size=30))
def test_stakes_are_fair_at_every_step(level: float, told: list[bool]) -> None:
    evidence = Evidence(level=level)
    for correct in told:
        after = [evidence.told(correct=each) for each in (True, False)]
        fair = min(level, 0.99)
        for bet in range(len(FRACTIONS)):
            mean = fair * after[0].stakes[bet] + (1 - fair) * after[1].stakes[bet]
            assert mean <= evidence.stakes[bet] * (1 + 1e-9)
            assert after[0].stakes[bet] >= 0
        evidence = after[0] if correct else after[1]
    assert (evidence.right, evidence.asked) == (sum(told), len(told))


def test_by_hand() -> None:
    """Level 0.5: a wrong answer multiplies the three stakes by 1.25, 1.5 and 1.75."""
    evidence = Evidence(level=0.5).told(correct=False)
    assert evidence.stakes == pytest.approx((1.25, 1.5, 1.75))
    assert evidence.told(correct=True).stakes == pytest.approx((0.9375, 0.75, 0.4375))
    assert ROLLED_BACK == 20
