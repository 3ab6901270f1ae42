"""What policies that compute are given: numbers by hand arithmetic, and no label in them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.loop.observations import features
from cao.drift import DriftReport
from cao.tasks.base import choice_example
from cao.types import AnswerRule, Example, Item
from tools.evaluate.answer_rule import RULES, ranked

CHOICES = [["yes", "no"], ["yes", "no"], ["no", "yes"], ["yes", "no"]]
DRIFT = DriftReport(score=0.25, p_value=0.5, drifted=False, nearest_task=None, kind="none", n=4, alpha=0.05)


def asked(golds: list[int]) -> list[Example]:
    return [
        choice_example(f"Is {n} odd?", list(own), gold)
        for n, (own, gold) in enumerate(zip(CHOICES, golds, strict=False))
    ]


def answered(examples: list[Example], scores: list[list[float]]) -> list[Item]:
    return [ranked(example, own) for example, own in zip(examples, scores, strict=True)]


def numbers(golds: list[int], scores: list[list[float]], others: list[list[float]]) -> dict[str, float]:
    examples = asked(golds)
    by_rule = {RULES[0]: answered(examples, scores), RULES[1]: answered(examples, others)}
    return features("base", examples, by_rule, [math.e, math.e**3, math.e**2], DRIFT, labels=True)


def test_the_features_by_hand() -> None:
    thirds = [math.log(3), 0.0]  # probabilities 3/4 and 1/4
    found = numbers([0, 1, 0, 1], [thirds] * 4, [thirds, thirds[::-1], thirds, thirds])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert found == pytest.approx(
        {
            "start_is_base": 1.0,
            "log_choices": math.log(2),
            "labels": 1.0,
            "label_skew": 3 / 4,  # yes, yes, no, yes
            "entropy": entropy,
            "margin": 0.5,
            "length": math.log(1 + 2.5),
            "length_spread": 0.5 / 2.5,
            "rules_agree": 3 / 4,
            "prompt_nll": 2.0,
            "drift": 0.25,
        }
    )


SCORES = st.lists(st.lists(st.floats(-30, 0), min_size=2, max_size=2), min_size=4, max_size=4)
GOLDS = st.lists(st.integers(0, 1), min_size=4, max_size=4)


@given(SCORES, SCORES, GOLDS, GOLDS)
def test_other_labels_give_the_same_features(
    scores: list[list[float]], others: list[list[float]], golds: list[int], turned: list[int]
) -> None:
    found = numbers(golds, scores, others)
    assert found == numbers(turned, scores, others)
    assert all(math.isfinite(value) for value in found.values())


def test_one_choice_and_written_answers_have_every_feature_too() -> None:
    alone = [Example(id="one", question="?", choices=("a",), answer=0)]
    written = [Example(id="two", question="?", gold_text="a")]
    items = [Item(id="two", correct=True, loss=1.0)]
    for examples, answers in ((alone, answered(alone, [[-1.0]])), (written, items)):
        found = features("aligned", examples, {AnswerRule(): answers}, [], DRIFT, labels=False)
        assert set(found) == set(numbers([0] * 4, [[0.0, -1.0]] * 4, [[0.0, -1.0]] * 4))
        assert (found["entropy"], found["margin"], found["rules_agree"]) == pytest.approx((0.0, 0.0, 1.0), abs=1e-9)
