"""Draws, intervals and recovery, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from cao.types import AnswerRule
from eval.generation.bootstrap import Answers, Draws, interval, over_tasks, recovered, recovery, two_sided
from tests.eval.generation.parts import answers, items


def everything(questions: list[list[int]], seeds: list[list[int]]) -> Draws:
    return Draws(np.array(questions, dtype=np.float64), np.array(seeds, dtype=np.float64))


def test_answers_by_hand() -> None:
    """Seeds 1, 3 | 3, 5 nats over 10 characters each: mean 2 + 4 nats over 20 characters."""
    found = answers(([1.0, 3.0], [1, 0]), ([3.0, 5.0], [1, 1]))
    assert (found.n, found.seeds) == (2, 2)
    assert found.nll_per_char == pytest.approx(0.3)
    assert found.best.accuracy == found.default.accuracy == 0.75
    assert found.best.log_loss == pytest.approx(0.3)


def test_answers_by_the_best_rule_stand_beside_those_by_the_default_one() -> None:
    rule = AnswerRule(length="none")
    found = Answers.of([items([1.0, 3.0], [1, 0])], [items([1.0, 3.0], [1, 1])], [rule])
    assert (found.default.accuracy, found.best.accuracy) == (0.5, 1.0)
    assert found.rules == (rule,)


def test_adapters_that_only_guess_are_counted() -> None:
    """Both choices alike in every question: half of the answers are right, and the loss is that of guessing."""
    guessing = [item.model_copy(update={"scores": (-1.0, -1.0)}) for item in items([1.0] * 20, [1, 0] * 10)]
    knowing = [item.model_copy(update={"scores": (0.0, -1.0)}) for item in items([1.0] * 20, [1] * 20)]
    assert Answers.of([guessing, knowing, guessing]).at_chance == 2


def test_answers_to_other_questions_are_no_seeds_of_one_another() -> None:
    with pytest.raises(AssertionError, match="other questions"):
        Answers.of([items([1.0], [1]), [items([1.0, 2.0], [1, 1])[1]]])


def test_draws_by_hand() -> None:
    """Question 0 twice and question 1 never, seed 1 twice and seed 0 never; then everything once."""
    draws = everything([[2, 0], [1, 1]], [[0, 2], [1, 1]])
    found = answers(([1.0, 3.0], [1, 0]), ([3.0, 5.0], [0, 1]))
    assert draws.nll_per_char(found).tolist() == pytest.approx([0.3, 0.3])
    assert draws.means(found.best.correct).tolist() == pytest.approx([0.0, 0.5])
    base = answers(([2.0, 4.0], [1, 1]))  # one seed stands beside any draw of seeds
    assert draws.nll_per_char(base).tolist() == pytest.approx([0.2, 0.3])


@bounded(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 9))
def test_a_draw_has_as_many_questions_and_seeds_as_there_are(n: int, seeds: int, seed: int) -> None:
    draws = Draws.make(n, seeds, np.random.default_rng(seed), 50)
    assert draws.questions.shape == (50, n)
    assert set(draws.questions.sum(1).tolist()) == {float(n)}
    assert set(draws.seeds.sum(1).tolist()) == {float(seeds)}


def test_the_interval_of_a_paired_difference_holds_its_level() -> None:
    """What makes a question hard cancels: a difference of .5 ± .2 nats is seen beside a spread of 5, at its level."""
    rng, covered, runs = np.random.default_rng(0), 0, 200
    for _ in range(runs):
        hardness = rng.normal(20, 5, 60)
        base, made = hardness, hardness - 0.5 + rng.normal(0, 0.2, 60)
        draws = Draws.make(60, 1, rng, 400)
        pair = [answers((values.tolist(), [1] * 60)) for values in (made, base)]
        low, high = interval(draws.nll_per_char(pair[0]) - draws.nll_per_char(pair[1]))
        assert high - low < 0.03
        covered += low <= -0.05 <= high
    assert 0.89 <= covered / runs <= 0.99


def test_a_mean_over_tasks_draws_tasks_too() -> None:
    """Two tasks that always differ by 1 and by 3: each draw's mean is 1, 2 or 3, about 1 : 2 : 1."""
    drawn = over_tasks([np.full(4000, 1.0), np.full(4000, 3.0)])
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [1.0, 2.0, 3.0]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    one = np.arange(5, dtype=np.float64)
    assert over_tasks([one]).tolist() == one.tolist()


def test_recovery_by_hand() -> None:
    assert recovery(1.0, 0.6, 0.5) == pytest.approx(0.8)
    assert recovery(1.0, 1.2, 0.5) == pytest.approx(-0.4)
    assert recovery(1.0, 0.6, 1.0) is None
    base, made, best = answers(([2.0, 2.0], [1, 1])), answers(([1.0, 2.0], [1, 1])), answers(([0.0, 3.0], [1, 1]))
    draws = everything([[2, 0], [0, 2], [1, 1]], [[1]] * 3)
    found = recovered(draws, base, made, best)  # in the second draw the checkpoint gains nothing
    assert found.tolist() == pytest.approx([0.5, 1.0])


def test_a_bootstrap_on_one_side_of_zero_is_not_certain() -> None:
    assert two_sided(np.full(999, 1.0)) == pytest.approx(0.002)
    assert two_sided(np.array([1.0, -1.0] * 500)) == 1.0
