"""Means, paired differences and corrected p-values, by hand."""

import numpy as np
import pytest

from eval.baselines.baseline import Spent
from eval.generation.bootstrap import Answers, Draws, interval
from eval.generation.scores import TaskAnswers
from eval.paper.statistics import accuracy_interval, choice_of, holm, mean_of, spent_of, versus
from tests.eval.generation.parts import answers, items


def task(**rows: list[int]) -> TaskAnswers:
    """One task's answers: row → 1 where a question is answered rightly."""
    n = len(next(iter(rows.values())))
    made = {row: answers(([1.0] * n, right)) for row, right in rows.items()}
    return TaskAnswers(made, Draws.make(n, 1, np.random.default_rng(0)), 0.25)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_mean_is_over_the_tasks_that_have_the_row() -> None:
    both = {"a": task(x=[1, 1, 0, 0], y=[1, 1, 1, 1]), "b": task(x=[1, 0, 0, 0])}
    mean = mean_of("x", both)
    assert mean is not None
    assert (mean.tasks, mean.accuracy) == (("a", "b"), 0.375)
    assert mean.ci95[0] <= 0.375 <= mean.ci95[1]
    assert mean_of("z", both) is None


def test_none_right_of_sixty_may_be_some_of_all() -> None:
    of_task = task(none=[0] * 60, every=[1] * 60, half=[1, 0] * 30)
    assert accuracy_interval(of_task, "none") == pytest.approx((0.0, 0.0602), abs=1e-4)  # z² / (n + z²)
    assert accuracy_interval(of_task, "every") == pytest.approx((0.9398, 1.0), abs=1e-4)
    assert accuracy_interval(of_task, "half") == interval(of_task.accuracy("half"))


def test_rows_are_compared_on_the_tasks_that_both_have() -> None:
    kinds = {"in domain": {"a": task(x=[1, 1, 1, 1], y=[0, 0, 0, 0]), "b": task(x=[0, 0, 0, 0])}}
    (one,) = versus([("x", "y"), ("y", "z")], kinds, ranked=False)
    assert (one.row, one.other, one.tasks, one.accuracy, one.ci95) == ("x", "y", ("a",), 1.0, (1.0, 1.0))
    assert one.surely_better
    assert not one.surely_worse


def test_rows_are_compared_by_the_plain_rule_too_where_choices_are_ranked() -> None:
    """By its best rule x answers all four and y two; by the plain one x answers one and y three."""

    def graded(best: list[int], default: list[int]) -> Answers:
        return Answers.of([items([1.0] * 4, default)], [items([1.0] * 4, best)])

    made = {"x": graded([1, 1, 1, 1], [1, 0, 0, 0]), "y": graded([1, 1, 0, 0], [1, 1, 1, 0])}
    kinds = {"in domain": {"a": TaskAnswers(made, Draws.make(4, 1, np.random.default_rng(0)), 0.25)}}
    (one,) = versus([("x", "y")], kinds, ranked=True)
    assert (one.accuracy, one.plain) == (0.5, -0.5)
    assert one.plain_ci95 is not None
    assert -1 <= one.plain_ci95[0] < -0.5 < one.plain_ci95[1] <= 0
    (written,) = versus([("x", "y")], kinds, ranked=False)
    assert (written.plain, written.plain_ci95) == (None, None)


def test_pairs_take_out_what_makes_a_question_hard_for_both() -> None:
    hard = [1, 0] * 20
    kinds = {"in domain": {"a": task(x=hard, y=hard)}}
    (one,) = versus([("x", "y")], kinds, ranked=False)
    assert (one.accuracy, one.ci95, one.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_p_values_are_corrected_for_all_comparisons_of_the_table() -> None:
    right, wrong = [1] * 30 + [0] * 10, [0] * 10 + [1] * 10 + [0] * 20
    kind = {"a": task(x=right, y=wrong, z=wrong)}
    alone = versus([("x", "y")], {"in domain": kind}, ranked=False)[0]
    together = versus([("x", "y"), ("x", "z")], {"in domain": kind, "out of domain": kind}, ranked=False)
    assert alone.holm == alone.p_value
    assert all(one.holm >= one.p_value for one in together)
    assert min(one.holm for one in together) == pytest.approx(min(1, 4 * min(one.p_value for one in together)))


def test_choosing_by_task_is_judged_on_the_other_half() -> None:
    other = {"a": task(x=[1] * 40, y=[0] * 40), "b": task(x=[0] * 40, y=[1] * 40)}
    choice = choice_of(["x", "y"], other)
    assert choice is not None
    assert choice.best == {"a": "x", "b": "y"}
    assert (choice.gain, choice.ci95) == (0.5, (0.5, 0.5))


def test_choosing_among_noise_gains_nothing_on_the_other_half() -> None:
    rng = np.random.default_rng(1)
    noise = {name: task(x=rng.integers(0, 2, 200).tolist(), y=rng.integers(0, 2, 200).tolist()) for name in "abcdefgh"}
    choice = choice_of(["x", "y"], noise)
    assert choice is not None
    assert choice.ci95[0] < 0 < choice.ci95[1]
    assert choice_of(["x"], noise) is None


def test_choosing_among_equals_is_hardly_ever_sure() -> None:
    """Of 40 tables of four equal rows; an interval of the judged questions alone is sure of a gain in two of them."""
    rng, sure = np.random.default_rng(2), 0
    for _ in range(40):
        noise = {name: task(**{row: rng.integers(0, 2, 60).tolist() for row in "wxyz"}) for name in "abcdef"}
        choice = choice_of(list("wxyz"), noise)
        assert choice is not None
        sure += choice.ci95[0] > 0
    assert sure <= 1


def test_what_was_not_kept_is_not_averaged() -> None:
    one, two = Spent(steps=2, tokens=10, seconds=1.0), Spent(steps=4, tokens=None, seconds=3.0)
    assert spent_of([(one, one), (two, one)]) == (Spent(steps=3, tokens=None, seconds=2.0), one)
    assert spent_of([]) is None
