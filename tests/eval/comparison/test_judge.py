"""What is said of two sides, by hand arithmetic."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cao.errors import InputError
from eval.comparison.answers import BY_ID, BY_TEXT, Answered, Side
from eval.comparison.judge import bootstrap, judge, matched
from eval.generation.bootstrap import interval


def answered(name: str, correct: bool, scores: tuple[float, ...] = (), gold: int = -1, **more: str) -> Answered:
    return Answered(((BY_ID, name), *((BY_TEXT, text) for text in more.values())), (correct,), scores, gold)


def side(answers: list[Answered], source: str = "x") -> Side:
    return Side(source, "made", None, None, "made", answers)


def graded(right: list[bool], scale: float = 1.0) -> Side:
    """Questions with two choices, the first of which is right; the scores are ``scale`` apart."""
    return side([answered(f"q{i}", good, (scale * good, scale * (not good)), 0) for i, good in enumerate(right)])


def test_accuracy_and_mcnemar_are_those_of_the_hand() -> None:
    a = side([answered(f"q{i}", i < 5) for i in range(10)])
    b = side([answered(f"q{i}", i != 4) for i in range(10)])
    found = judge(a, b)
    assert (found.n, found.only_a, found.only_b) == (10, 1, 5)
    assert (found.a.accuracy, found.b.accuracy) == (0.5, 0.9)
    assert found.accuracy_change == pytest.approx(0.4)
    assert found.mcnemar_p_value == pytest.approx(2 * (1 + 6) / 2**6)
    assert found.loss is None
    assert found.verdict.startswith("no difference in accuracy can be told from chance on 10 questions")
    assert "no question has choice scores on both sides" in found.verdict


def test_a_clear_difference_names_the_better_side() -> None:
    found = judge(side([answered(f"q{i}", False) for i in range(8)]), side([answered(f"q{i}", True) for i in range(8)]))
    assert found.mcnemar_p_value == pytest.approx(2 / 2**8)
    assert found.accuracy_ci95 == (1.0, 1.0)
    assert found.verdict.startswith("B answers more of the 8 questions right than A (B − A: +100.0 points")


@pytest.mark.parametrize("scale", [1.0, 0.01, 700.0])
def test_the_log_loss_is_that_at_each_sides_own_temperature_whatever_the_scale(scale: float) -> None:
    found = judge(graded([True] * 8), graded([False] * 8, scale))
    assert found.loss is not None
    knows = -math.log((4 + 0.5) / (4 + 1))  # four right of four in the other half, by Krichevsky and Trofimov
    assert found.a.log_loss == pytest.approx(knows)
    assert found.b.log_loss == pytest.approx(math.log(2))  # always wrong is believed as guessing
    assert found.loss.change == pytest.approx(math.log(2) - knows)
    assert found.loss.ci95 == pytest.approx((found.loss.change, found.loss.change))
    assert found.loss.p_value < 1e-9
    assert "A's log-loss is lower than B's" in found.verdict


def test_the_log_loss_is_of_questions_that_both_scored() -> None:
    a = graded([True] * 10)
    b = side([answered(f"q{i}", True, (1.0, 0.0) if i < 8 else (), 0) for i in range(10)])
    found = judge(a, b)
    assert found.n == 10
    assert found.loss is not None
    assert (found.loss.n, found.loss.change, found.loss.p_value) == (8, 0.0, 1.0)


def test_the_interval_is_the_binomials() -> None:
    ten = bootstrap(np.array([[1.0] * 5 + [0.0] * 5]))
    assert interval(ten) == pytest.approx((0.2, 0.8))  # quantiles of Binomial(10, ½) / 10
    assert interval(bootstrap(np.array([[0.25]]))) == (0.25, 0.25)


def seeded(*seeds: str) -> Side:
    """One row of a table: of each seed, whether each question is answered right."""
    return side([Answered(((BY_ID, f"q{i}"),), tuple(s[i] == "1" for s in seeds)) for i in range(len(seeds[0]))])


def test_of_several_seeds_all_speak() -> None:
    """The second seed undoes what the first one gained; the first alone would have told a difference."""
    found = judge(seeded("0000000000"), seeded("1111111111", "0000000000"))
    assert (found.a.seeds, found.b.seeds, found.b.accuracy) == (1, 2, 0.5)
    assert found.accuracy_change == 0.5
    assert (found.only_a, found.only_b) == (0, 10)
    assert found.mcnemar_p_value is None
    assert found.accuracy_ci95 == (0.0, 1.0)  # both seeds of a draw are the second in every fourth draw
    assert found.p_value == found.bootstrap_p_value == pytest.approx(0.5, abs=0.05)
    assert "no difference in accuracy can be told from chance" in found.verdict
    assert "bootstrap of questions and 2 seeds, p = " in found.verdict


def test_the_same_seeds_of_both_sides_are_drawn_together() -> None:
    a, b = seeded("1111100000", "0000000000"), seeded("1111110000", "1000000000")
    found = judge(a, b)
    assert found.accuracy_change == pytest.approx(0.1)
    assert found.accuracy_ci95[0] == 0.0
    with pytest.raises(
        InputError, match=r"was measured with 2 seeds and x with 3; .* measure both with the same seeds"
    ):
        judge(a, seeded("1" * 10, "0" * 10, "1" * 10))


def test_a_question_is_matched_by_any_name_and_left_out_where_names_do_not_tell() -> None:
    a = side([answered("1", True, text="t1"), answered("2", True), answered("3", True), answered("4", True, text="t4")])
    b = side(
        [answered("x", False, text="t1"), answered("2", True), answered("y", True, text="t4"), answered("4", False)]
    )
    pairs = matched(a, b)
    assert [(name, second.correct) for name, _, second in pairs] == [
        ((BY_ID, "2"), (True,)),
        ((BY_TEXT, "t1"), (False,)),
    ]
    found = judge(a, b)
    assert (found.n, found.a.left_out, found.b.left_out) == (2, 2, 2)
    assert found.matched_by == {BY_ID: 1, BY_TEXT: 1}


def test_a_text_that_a_side_has_twice_names_no_question() -> None:
    twice = side([answered("1", True, text="same"), answered("2", False, text="same"), answered("3", True)])
    assert [name for name, *_ in matched(twice, twice)] == [(BY_ID, "1"), (BY_ID, "2"), (BY_ID, "3")]
    other = side([answered("7", True, text="same"), answered("3", True)])
    assert [name for name, *_ in matched(twice, other)] == [(BY_ID, "3")]


def test_nothing_in_common_is_refused_with_both_names_and_counts() -> None:
    with pytest.raises(InputError, match=r"one \(1 question\) and two \(2 questions\) have no question in common"):
        judge(side([answered("1", True)], "one"), side([answered("2", True), answered("3", True)], "two"))


def test_another_right_answer_is_refused() -> None:
    with pytest.raises(InputError, match="question id q0: the right answer is '0' in A and '1' in B"):
        judge(graded([True]), side([answered("q0", True, (0.0, 1.0), 1)]))


answers = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.floats(-5, 5), st.floats(-5, 5), st.integers(0, 1)),
    min_size=1,
    max_size=14,
)


@given(answers)
def test_changing_sides_changes_signs_and_nothing_else(rows: list[tuple[bool, bool, float, float, int]]) -> None:
    a = side([answered(f"q{i}", one, (x, 0.0), gold) for i, (one, _, x, _, gold) in enumerate(rows)])
    b = side([answered(f"q{i}", two, (0.0, y), gold) for i, (_, two, _, y, gold) in enumerate(rows)])
    one, other = judge(a, b), judge(b, a)
    assert other.accuracy_change == -one.accuracy_change
    assert other.accuracy_ci95 == pytest.approx((-one.accuracy_ci95[1], -one.accuracy_ci95[0]))
    assert (other.only_a, other.only_b) == (one.only_b, one.only_a)
    assert other.mcnemar_p_value == one.mcnemar_p_value
    assert one.loss is not None
    assert other.loss is not None
    assert other.loss.change == pytest.approx(-one.loss.change)
    assert other.loss.ci95 == pytest.approx((-one.loss.ci95[1], -one.loss.ci95[0]))
    assert other.loss.p_value == pytest.approx(one.loss.p_value)
    assert (other.a.log_loss, other.b.log_loss) == (one.b.log_loss, one.a.log_loss)
