"""Which answer rule a model stands for: the first one, unless another is better by a standard error."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cao.types import AnswerRule, Item
from tests.tools.evaluate.answered import item, scaled
from tools.evaluate.answer_rule import RULES
from tools.evaluate.statistics import best_rule

DEFAULT, SUM, PMI = RULES[:3]


def written(*losses: float) -> list[Item]:
    """Return answers without scores, whose losses are kept as they are."""
    return [Item(id=f"q{i}", correct=False, loss=loss) for i, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ((0.9, 0.9, 0.9, 0.5), SUM),  # mean −.2, deviation .2, standard error .1: two errors lower
        ((0.6, 1.2, 0.9, 1.1), DEFAULT),  # mean −.05, deviation .265, standard error .132
        ((0.7, 1.0, 1.05, 1.0), DEFAULT),  # mean −.0625, deviation .160, standard error .080
        ((1.1, 1.1, 1.1, 1.1), DEFAULT),  # surely worse
        ((0.9, 0.9, 0.9, 0.9), SUM),  # lower on every question alike
        ((1.0, 1.0, 1.0, 1.0), DEFAULT),  # the same
    ],
)
def test_another_rule_must_be_better_by_a_standard_error(losses: Sequence[float], chosen: AnswerRule) -> None:
    assert best_rule({DEFAULT: written(1, 1, 1, 1), SUM: written(*losses)}) == chosen


def test_of_several_better_rules_the_one_of_the_lowest_loss_is_taken() -> None:
    better, best = written(0.9, 0.9, 0.9, 0.9), written(0.7, 0.8, 0.7, 0.8)
    assert best_rule({DEFAULT: written(1, 1, 1, 1), SUM: better, PMI: best}) == PMI
    assert best_rule({DEFAULT: written(1, 1, 1, 1), PMI: best, SUM: better}) == PMI


def test_a_lower_mean_that_is_not_sure_loses_to_a_sure_one() -> None:
    lucky, sure = written(-1.0, 1.2, 1.2, 1.2), written(0.9, 0.9, 0.9, 0.9)  # −.35 with an error of .55, and −.1
    assert best_rule({DEFAULT: written(1, 1, 1, 1), SUM: lucky, PMI: sure}) == PMI


def test_one_question_says_nothing() -> None:
    assert best_rule({DEFAULT: written(2.0), SUM: written(0.1)}) == DEFAULT


def test_what_comes_first_stands_where_the_default_is_not_there() -> None:
    assert best_rule({SUM: written(1, 1), PMI: written(0.9, 1.2)}) == SUM


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 20))
def test_the_scale_of_the_scores_chooses_no_rule(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    answers = {rule: [item(f"q{i}", rng.normal(size=4), int(rng.integers(4))) for i in range(24)] for rule in RULES}
    longer = {rule: scaled(items, factor) if rule == SUM else items for rule, items in answers.items()}
    assert best_rule(longer) == best_rule(answers)
