"""Votes, the filter of difficulty and rewards, by hand on ten samples."""

import pytest

from cao.tasks.base import choice_example
from cao.types import Example
from eval.baselines.serl.method import SerlSettings
from eval.baselines.serl.votes import answer_of, majority, rewards

TEN = ["A", "B", "A", None, "A", "C", "B", "A", None, "A"]
BOUNDS = (0.2, 0.8)
QUESTION = choice_example("Which of them can fly?", ("bird", "fish", "snake"), 0)


def test_half_of_ten_samples_are_the_majority_though_two_give_no_answer() -> None:
    assert majority(TEN) == ("A", 0.5)
    assert rewards(TEN, BOUNDS) == [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("answers", "learnt"),
    [
        (["A"] * 8 + ["B"] * 2, True),  # .8 is within
        (["A"] * 9 + ["B"], False),  # too easy
        (["A", "A", *"BCDEFGHI"], True),  # .2 is within
        (list("ABCDEFGHIJ"), False),  # too hard
        (["A"] + [None] * 9, False),
        ([None] * 10, False),
    ],
)
def test_questions_that_are_too_easy_or_too_hard_move_nothing(answers: list[str | None], learnt: bool) -> None:
    assert (rewards(answers, BOUNDS) != [None] * 10) == learnt


def test_the_first_of_two_equal_answers_wins() -> None:
    assert majority(["B", "A", "A", "B"]) == ("B", 0.5)


def test_an_answer_is_the_letter_or_the_text_of_a_choice_and_the_label_is_not_read() -> None:
    texts = ["B", "(b) the fish", "fish", "The answer is B.", "no idea", ""]
    assert [answer_of(text, QUESTION) for text in texts] == ["1", "1", "1", "1", None, None]
    for label in (1, 2):
        assert answer_of("B", QUESTION.model_copy(update={"answer": label})) == "1"


def test_free_answers_that_read_the_same_are_one() -> None:
    free = Example(id="q", question="How many?", gold_text="7")
    assert answer_of("Seven  dogs.\nBecause", free) == answer_of("seven dogs", free)
    assert answer_of("\n", free) is None


def test_the_settings_are_the_reference_codes_for_one_round() -> None:
    """Its difficulty filter, samples, rate and divergence; 2,000 questions written behind eight of the target's."""
    settings = SerlSettings()
    assert (settings.rounds, settings.bounds) == (1, (0.2, 0.8))
    reinforcing, writing = settings.reinforcing, settings.writing
    assert (reinforcing.rate, reinforcing.samples, reinforcing.prompts, reinforcing.kl) == (5e-7, 16, 16, 1e-4)
    assert (writing.wanted, writing.shown, writing.alike) == (2000, 8, 0.7)
