"""The parsing of letters."""

import pytest

from cao.tasks.base import choice_example, parse_letter

ANIMALS = choice_example("Which of these can fly?", ["the dog", "the bird", "the cat", "the worm"], 1)


@pytest.mark.parametrize(
    "text",
    [
        "B",
        " b",
        "(B)",
        "(b)",
        "B.",
        "B) the bird",
        "B. the bird",
        "B: since it has wings",
        "b) the bird",
        "B is correct",
        "B\nQuestion: Which swims?\nAnswer: A",
        "\n\nB",
        "Answer: B",
        "answer: (b)",
        "The answer is B.",
        "The correct answer is (B) the bird.",
        "**Answer:** B",
        "I think it is B",
        "It's B, because it has wings.",
        "the bird",
        "The Bird.",
        "Option B",
        "A dog cannot fly, so it is B.",
    ],
)
def test_these_texts_name_the_second_choice(text: str) -> None:
    assert parse_letter(text, ANIMALS) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "a dog and a bird",
        "A dog",
        "A bird can fly",
        "The answer is a dog.",
        "It is a bird",
        "E",
        "(E)",
        "Answer: E",
        "Birds",
        "Because",
        "Cats fly",
        "I am not sure",
        "answer: Bananas",
        "the dog or the bird",
    ],
)
def test_these_texts_name_no_choice(text: str) -> None:
    assert parse_letter(text, ANIMALS) == -1


def test_the_first_choice_is_named_by_a_capital_a_alone() -> None:
    assert [parse_letter(text, ANIMALS) for text in ("A", "a", "A.", "The answer is A", "(A) the dog")] == [0] * 5


def test_a_choice_that_begins_like_a_letter_is_read_as_its_text() -> None:
    cells = choice_example("Which cells?", ["T cells", "A. flavus", "B cells", "mast cells"], 2)
    assert parse_letter("B cells", cells) == 2
    assert parse_letter("A. flavus", cells) == 1


def test_choices_that_differ_in_signs_only_are_told_apart() -> None:
    signs = choice_example("Negate P.", ["P", "~P", "(P)", "P."], 1)
    assert [parse_letter(text, signs) for text in ("P", "~P", "(P)", "P.")] == [0, 1, 2, 3]
