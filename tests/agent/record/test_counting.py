"""Measurements are named after whose answers they are."""

import pytest

from agent.record.counting import counting


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("base", "the deployed model"),
        ("aligned", "the aligned adapter"),
        ("test-default", "the deployed model"),
        ("test-step-2", "the model of step 2"),
        ("test-made-1", "the model made anew of strategy 1"),
        ("attempt-3", "attempt 3"),
    ],
)
def test_a_measurement_says_whose_answers_it_counts(name: str, told: str) -> None:
    seen: list[tuple[str, int, int]] = []
    counting(lambda *given: seen.append(given), name, "test", of=1, before=2, total=9)("score", 3, 4)
    assert seen == [(f"{told}, test questions", 5, 9)]
