"""What counts as one prompt of a window: blanks and repeats are no evidence and go before anything is encoded."""

import unicodedata
from collections.abc import Sequence

MIN_PROMPTS = 8
"""Distinct prompts below which no verdict is given."""

MOSTLY = 0.5
"""Share of a text's letters in another script than Latin, or of a window's such texts, that is not covered."""


def distinct(prompts: Sequence[str]) -> list[int]:
    """Return the positions of the prompts that count, in an order that the prompts' own order cannot change.

    Of prompts that differ only in letter case and white space, which the encoder does not see, the first counts.
    Twenty retries of one question would otherwise look like a distribution of its own.

    Args:
        prompts: texts, blank ones among them.

    Returns:
        Positions into ``prompts``, sorted by text.
    """
    first: dict[str, int] = {}
    for position, prompt in enumerate(prompts):
        key = " ".join(prompt.lower().split())
        if key:
            first.setdefault(key, position)
    return [first[key] for key in sorted(first)]


def blank(prompts: Sequence[str]) -> int:
    """Return how many prompts hold nothing but white space."""
    return sum(not prompt.strip() for prompt in prompts)


def letters_of(prompt: str) -> list[str]:
    """Return the characters of a prompt that are letters of any script."""
    return [character for character in prompt if unicodedata.category(character).startswith("L")]


def is_foreign(prompt: str) -> bool:
    """Return whether most letters belong to another script than the one that the encoder was trained on."""
    if prompt.isascii():
        return False
    letters = letters_of(prompt)
    others = sum(not unicodedata.name(letter, "").startswith("LATIN ") for letter in letters)
    return others > MOSTLY * len(letters)
