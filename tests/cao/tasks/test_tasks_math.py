"""GSM8K and MATH: numbers, LaTeX answers, grading and distractors."""

import random
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cao.tasks import competition_math, gsm8k
from cao.tasks.latex import boxed, key, normalise_latex
from cao.tasks.numerals import as_number, near_misses, numbers_in, stated_number

DUCKS = {
    "question": "Janet has 16 eggs, eats 3, bakes with 4 and sells the rest at $2. How much does she make?",
    "answer": "She sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\nShe makes 9 * 2 = $<<9*2=18>>18.\n#### 18",
}


# Numbers


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("16 - 3 = 13", ["16", "3", "13"]),
        ("16-3", ["16", "3"]),
        ("it is -3.", ["-3"]),
        ("−3 °C", ["-3"]),
        ("$1,450.50, that is all", ["1450.50"]),
        ("1,2 and 3", ["1", "2", "3"]),
        ("1,450,000", ["1450000"]),
        ("0.5 or .5", ["0.5", "0.5"]),
        ("20%", ["20"]),
        ("none", []),
    ],
)
def test_numbers_of_a_text(text: str, found: list[str]) -> None:
    assert numbers_in(text) == [Decimal(number) for number in found]


@given(st.integers(-(10**12), 10**12))
def test_a_whole_number_is_read_back_with_and_without_commas(number: int) -> None:
    assert stated_number(f"The answer is {number}.") == number
    assert stated_number(f"#### {number:,}") == number
    assert as_number(f"{number:,}") == number


@pytest.mark.parametrize("text", ["18 apples", "", "x", "1/2", "1,2", "NaN", "1e5"])
def test_texts_that_are_no_single_number(text: str) -> None:
    assert as_number(text) is None


@given(st.integers(0, 10**6), st.integers(0, 99))
def test_near_misses_are_never_the_gold_value_and_never_end(gold: int, seed: int) -> None:
    slips = near_misses(gold, random.Random(seed))
    first = [slip for slip, _ in zip(slips, range(30), strict=False)]
    assert len(first) == 30
    assert gold not in first
    assert all(slip >= 0 for slip in first)


# GSM8K


def test_distractors_are_the_steps_then_slips() -> None:
    first, *slips = gsm8k.distractors(DUCKS["answer"], 18, random.Random(0))
    assert first == 9
    assert len({18, 9, *slips}) == 4


def test_distractors_are_slips_where_the_problem_has_no_numbers() -> None:
    chosen = gsm8k.distractors("#### 5", 5, random.Random(0))
    assert len({*chosen, 5}) == 4
    assert chosen == gsm8k.distractors("#### 5", 5, random.Random(0))


def test_fractions_and_equal_values_are_no_distractors() -> None:
    worked = "<<1/2=.5>>.5, <<9*2=18.0>>18, <<2+2=4>>4, <<8/2=4.0>>4\n#### 18"
    assert gsm8k.distractors(worked, 18, random.Random(0))[:1] == [4]


def test_commas_in_the_gold_answer_do_not_give_it_away() -> None:
    example = gsm8k.convert({"question": "How many?", "answer": "<<5*425=2125>>\n#### 2,125"})
    assert example.gold_text == "2125"
    assert not any("," in choice for choice in example.choices)


@given(st.text(max_size=60), st.integers(0, 10**7), st.lists(st.integers(0, 500), max_size=5))
def test_choices_are_four_distinct_numbers_with_the_gold_one_among_them(
    question: str, gold: int, steps: list[int]
) -> None:
    worked = "".join(f"<<1*{step}={step}>>{step}\n" for step in steps)
    row = {"question": f"q{question}", "answer": f"{worked}#### {gold}"}
    example = gsm8k.convert(row)
    assert len({int(choice) for choice in example.choices}) == 4
    assert example.choices[example.answer] == example.gold_text == str(gold)
    assert example == gsm8k.convert(row)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("#### 18", True),
        ("16 - 3 - 4 = 9, 9 * 2 = 18\n#### 18\nthat is 9 more", True),
        ("#### $18.00", True),
        ("She makes $18.", True),
        ("It is 18, not 9", False),
        ("#### 9\n18", False),
        ("####\nso 18", True),
        ("#### -18", False),
        ("180", False),
        ("", False),
        ("eighteen", False),
        ("9" * 5000, False),
    ],
)
def test_grading_reads_the_marked_number_first_and_the_last_one_else(text: str, right: bool) -> None:
    assert gsm8k.grade(text, gsm8k.convert(DUCKS)) is right


def test_the_choices_are_not_shown_where_free_text_is_asked() -> None:
    example = gsm8k.convert(DUCKS)
    assert gsm8k.ask(example) == f"Question: {DUCKS['question']}\nAnswer:"


# LaTeX


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so $\boxed{2}$.", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} and then \boxed{\sqrt{3}}", r"\sqrt{3}"),
        (r"\boxed{1} and \boxed{2", "1"),
        (r"\boxed 7$", "7"),
        (r"\fbox{x}", "x"),
        (r"\boxed{}", ""),
        ("2", None),
        (r"\boxed{{", None),
    ],
)
def test_the_last_balanced_box_counts(text: str, content: str | None) -> None:
    assert boxed(text) == content


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\dfrac{1}{2}", r"\frac 12"),
        (r"\frac1{72}", r"\frac{1}{72}"),
        ("0.5", r"\frac{1}{2}"),
        ("1/2", "0.50"),
        (r"-\frac{3}{4}", "-.75"),
        (r"\frac{-3}{4}", r"-\frac{3}{4}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        (r"10\text{ cm}^2", "10"),
        (r"\text{odd}", "odd"),
        (r"\$1{,}000", "1000"),
        ("36^\\circ", "36"),
        (r"20\%", "20"),
        ("x = 5", "5"),
        (r"x \in [-2,7]", "[-2,7]"),
        (r"\sqrt3", r"\sqrt{3}"),
        ("$4$.", "4"),
        ("1\\\\ 2", "1\\\\2"),
    ],
)
def test_these_answers_are_the_same(one: str, other: str) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,2", "12"),
        ("(1,2)", "(2,1)"),
        (r"\frac{1}{2}", "2"),
        ("x^2", "x^3"),
        ("-1", "1"),
        (r"(-\infty,7)", r"(\infty,7)"),
    ],
)
def test_these_answers_differ(one: str, other: str) -> None:
    assert key(one) != key(other)


@given(st.text(alphabet="\\frac{}{}12 sqrt,.$-text()", max_size=40))
def test_normalising_takes_any_text(text: str) -> None:
    assert isinstance(normalise_latex(text), str)
    assert isinstance(key(text), str | Fraction)


def test_a_denominator_of_zero_is_no_number() -> None:
    assert key(r"\frac{1}{0}") == r"\frac{1}{0}"


# MATH


def _problem(question: str, answer: str, subject: str = "Algebra") -> dict[str, str]:
    return {"problem": question, "type": subject, "solution": rf"Thus $\boxed{{{answer}}}$."}


def test_distractors_are_answers_of_the_same_subject_and_shape() -> None:
    rows = [_problem(f"q{i}", rf"\frac{{1}}{{{i + 2}}}") for i in range(9)]
    rows += [_problem(f"n{i}", str(i)) for i in range(9)] + [_problem("g", r"\frac{7}{8}", "Geometry")]
    for example in competition_math.convert(rows)[:9]:
        assert all(choice.startswith(r"\frac{1}{") for choice in example.choices)
        assert len({key(choice) for choice in example.choices}) == 4


def test_a_lonely_answer_gets_changed_numbers() -> None:
    (example,) = competition_math.convert([_problem("q", r"3\sqrt{7}")])
    assert len({key(choice) for choice in example.choices}) == 4
    assert all(competition_math.shape(choice) == r"0\sqrt{0}" for choice in example.choices)


def test_problems_without_a_boxed_answer_are_left_out() -> None:
    rows = [_problem("q", "1"), {"problem": "r", "type": "Algebra", "solution": "none"}]
    assert [example.question for example in competition_math.convert(rows)] == ["q"]


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        (r"\boxed{0.5}", r"\frac{1}{2}", True),
        (r"first \boxed{3}, no: \boxed{\tfrac12}", r"\frac{1}{2}", True),
        ("The answer is 12.", "12", True),
        ("It is 12 or 13", "12", False),
        (r"\boxed{13} or 12", "12", False),
        (r"Work.\nSo the answer is $(3,4]$", "(3,4]", True),
        ("The answer is odd.", r"\text{odd}", True),
        ("", "12", False),
        ("", "odd", False),
        ("no idea", "(3,4]", False),
    ],
)
def test_grading_reads_the_box_first(text: str, gold: str, right: bool) -> None:
    example = competition_math.convert([_problem("q", gold), *(_problem(f"r{i}", str(100 + i)) for i in range(4))])[0]
    assert competition_math.grade(text.replace("\\n", "\n"), example) is right


@pytest.mark.integration
def test_the_place_of_the_gold_choice_is_even() -> None:
    for examples in (gsm8k.load(), competition_math.load()):
        places = [example.answer for example in examples]
        expected = len(places) / 4
        assert sum((places.count(i) - expected) ** 2 / expected for i in range(4)) < 16.3  # chi-squared, p = .001
