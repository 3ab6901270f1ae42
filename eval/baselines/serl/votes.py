"""Majority votes as rewards: without a label, the answer that most samples give counts as right.

Source: Fang et al., SeRL (2025).
"""

from collections import Counter
from collections.abc import Sequence

from cao.tasks.base import answer_form, parse_letter
from cao.tasks.graders import first_line
from cao.types import Example


def answer_of(text: str, example: Example) -> str | None:
    """Return the answer that a text gives, in a form in which equal ones are equal; None where it gives none.

    Args:
        text: what the model wrote.
        example: the question; its label is not read.
    """
    if example.choices:
        place = parse_letter(text, example)
        return None if place < 0 else str(place)
    return answer_form(first_line(text)) or None if first_line(text) else None


def majority(answers: Sequence[str | None]) -> tuple[str | None, float]:
    """Return the answer that most samples give, the first among equals, and its share of all samples.

    Args:
        answers: of n samples; None gives no vote, but is counted among the n.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return None, 0.0
    answer, count = votes.most_common(1)[0]
    return answer, count / len(answers)


def rewards(answers: Sequence[str | None], bounds: tuple[float, float]) -> list[float | None]:
    """Return each sample's reward: 1 for the majority's answer, 0 for another; None for all where nothing is learnt.

    A question that nearly all samples answer alike is too easy, one on which hardly two agree is too hard: neither
    moves the policy.

    Args:
        answers: of n samples of one question.
        bounds: shares of the majority between which a question is learnt from, both included.
    """
    answer, share = majority(answers)
    if answer is None or not bounds[0] <= share <= bounds[1]:
        return [None] * len(answers)
    return [float(each == answer) for each in answers]
