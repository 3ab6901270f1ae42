"""Questions made by the generators of reasoning-gym, an optional extra for training.

A question's choices are its own answer and three answers of other questions of the generator, about as long and each
judged wrong by the generator's own scorer. Generator, seed and number of questions are fixed, so that the questions are
the same in every run and the parts of the task stay apart.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from cao.machine.extras import need
from cao.tasks.base import Task, answer_form, choice_example, example_id, read_id
from cao.tasks.sources import Row, usable
from cao.types import Example

PREFIX = "reasoning_gym_"
SEED, SIZE = 0, 1200
CHOICES = 4
WRONG = 0.5
"""Score below which an answer is wrong; the scorers give part of the credit for being near."""
TRIED = 40
"""Answers of other questions that are looked at for one question."""

GENERATORS = {
    "ab": "strings of four tokens that are rewritten by pairwise rules until none applies",
    "aiw": "word problems that count the siblings, friends or colleagues of somebody in a small family or group",
    "base_conversion": "whole numbers to be written in another base",
    "basic_arithmetic": "arithmetic expressions to be worked out",
    "binary_alternation": "binary strings, and the fewest swaps that make zeros and ones alternate",
    "bitwise_arithmetic": "expressions with bitwise operations on hexadecimal numbers",
    "caesar_cipher": "sentences enciphered by shifting every letter by the same amount",
    "calendar_arithmetic": "questions about dates, days of the week and leap years",
    "chain_sum": "sums and differences of several whole numbers",
    "color_cube_rotation": "cubes with coloured sides that are turned, and the colour of one side afterwards",
    "complex_arithmetic": "sums, products and quotients of complex numbers",
    "count_bits": "whole numbers, and how many ones their binary form has",
    "count_primes": "ranges of whole numbers, and how many primes lie in them",
    "course_schedule": "lists of courses with their prerequisites, and whether all can be finished",
    "decimal_arithmetic": "expressions with decimal fractions to be worked out exactly",
    "decimal_chain_sum": "sums and differences of several decimal fractions",
    "dice": "sets of dice, and the probability that their sum reaches a number",
    "family_relationships": "descriptions of a family, and how one member is related to another",
    "fraction_simplification": "fractions to be reduced to lowest terms",
    "gcd": "greatest common divisors",
    "gsm_symbolic": "word problems in elementary mathematics with changed names and numbers",
    "largest_island": "grids of ones and zeros, and the size of the largest connected area of ones",
    "lcm": "least common multiples",
    "leg_counting": "lists of animals, and how many legs they have together",
    "letter_counting": "passages of text, and how often a letter occurs in them",
    "maze": "mazes drawn in characters, and the number of steps of the shortest way through",
    "number_filtering": "lists of numbers from which those above or below a bound are kept or removed",
    "number_format": "numbers in several notations, of which the largest, the smallest or the last is wanted",
    "power_function": "powers of decimal fractions in scientific notation",
    "prime_factorization": "whole numbers to be written as products of primes",
    "products": "products of two or more whole numbers",
    "simple_equations": "linear equations to be solved for their unknown",
    "simple_geometry": "polygons with all angles given but one",
    "spell_backward": "words to be spelt backward",
    "syllogism": "pairs of premises, and whether a conclusion follows from them",
}
"""The generators that are used, each with what its questions are. Left out are those whose questions or answers are
long, whose scorer gives other answers much credit, that state no answer, that print, that take minutes, or whose
questions depend on the order of a set."""


class Generated(Protocol):
    """What the library makes: entries that can be iterated, and the scorer of its answers."""

    def __iter__(self) -> Iterator[Row]:
        """Return the entries."""

    def score_answer(self, answer: str, entry: Row) -> float:
        """Return an answer's credit in [0, 1] for an entry."""


def generated(name: str) -> Generated:
    """Return the fixed data set of one generator.

    Raises:
        UnavailableError: the extra is not installed.
    """
    need("practice")
    from reasoning_gym import create_dataset  # noqa: PLC0415  (an extra)

    made: Generated = create_dataset(name, seed=SEED, size=SIZE)
    return made


def convert(entry: Row, answers: Sequence[str], count: int, score: Callable[[str, Row], float]) -> Example | None:
    """Return one question with its choices, or None where the other answers offer too few.

    Args:
        entry: ``question`` and ``answer``.
        answers: the answers of all questions, each as often as it is one; a wrong choice is then as frequent as a right
            one, and frequency gives nothing away.
        count: choices that are wanted.
        score: the generator's scorer: an answer's credit in [0, 1] for an entry.
    """
    question, gold = entry["question"].strip(), entry["answer"].strip()
    if score(gold, entry) < 1:
        return None
    rng = random.Random(example_id(question))
    others = rng.sample(answers, min(len(answers), TRIED))
    chosen = {answer_form(gold): gold}
    for other in sorted(others, key=lambda answer: abs(len(answer) - len(gold))):  # at random where equally long
        if len(chosen) == count:
            break
        if answer_form(other) not in chosen and score(other, entry) < WRONG:
            chosen[answer_form(other)] = other
    if len(chosen) < count:
        return None
    choices = list(chosen.values())
    rng.shuffle(choices)
    return choice_example(question, choices, choices.index(gold), group=read_id(question))


def load(name: str) -> list[Example]:
    """Return the questions of one generator.

    Raises:
        UnavailableError: the extra is not installed.
    """
    data = generated(name)
    entries = list(data)
    answers = [answer for entry in entries if (answer := entry["answer"].strip())]
    count = min(CHOICES, len(set(answers)))
    found = (convert(entry, answers, count, data.score_answer) for entry in entries)
    return usable(example for example in found if example is not None)


def _tasks() -> Iterator[Task]:
    for name, subject in GENERATORS.items():
        yield Task(
            name=f"{PREFIX}{name}",
            title=f"Reasoning Gym: {name.replace('_', ' ')}",
            source=f"reasoning-gym {name} (Apache-2.0), generated with seed {SEED}; needs the extra practice",
            load=partial(load, name),
            description=(
                f"This task consists of {subject}. The questions are made by a program after a few patterns, so that "
                "the same way of working them out serves for all. The answers offered are right for other questions "
                "of the kind, and one of them is right for this one."
            ),
        )


TASKS = tuple(_tasks())
