"""Which choice an answer names: by index, letter, label or text, the same way in a whole file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from cao.tasks.base import LETTERS
from cao.tasks.files.rows import BadRowError

ENOUGH = 10
"""Rows from which on a file with this project's own names, whose indexes count from 0, may be seen to count from 1."""

Answer = tuple[object, tuple[str, ...], tuple[str, ...]]
"""An answer as the file has it, the choices, and the labels that the file states for them."""


@dataclass
class LabelRule:
    """How the answers of one file name choices.

    Attributes:
        base: what indexes count from.
        digits: whether a text of digits is an index: some answer is then the text of no choice.
        seen: the ways that were met, for people.
    """

    base: int = 0
    digits: bool = False
    seen: dict[str, None] = field(default_factory=dict)

    @classmethod
    def of(cls, answers: Sequence[Answer], *, base: int | None, own: bool, named: bool) -> "LabelRule":
        """Return the rule that a file's answers follow.

        Args:
            answers: all of them.
            base: what indexes count from, None where that is to be found out.
            own: whether the file has this project's own names, by which they count from 0.
            named: whether the file names its numbers, which then count from 0.

        Raises:
            BadRowError: they may count from 0 as well as from 1.
        """
        written = [
            (answer.strip(), choices)
            for answer, choices, labels in answers
            if isinstance(answer, str) and answer.strip().isdecimal() and answer.strip() not in labels
        ]
        digits = bool(written) and not all(text in choices for text, choices in written)
        indexes = [
            (int(answer), len(choices))
            for answer, choices, _ in answers
            if isinstance(answer, Decimal) and _whole(answer)
        ]
        indexes += [(int(text[:9]), len(choices)) for text, choices in written if digits]
        if base is None:
            base = 0 if named else _base(indexes, own=own)
        return cls(base, digits)

    def index(self, answer: object, choices: tuple[str, ...], labels: tuple[str, ...]) -> int:
        """Return which choice an answer names.

        Args:
            answer: as the file has it.
            choices: texts.
            labels: of the choices, or what the file's numbers stand for.

        Raises:
            BadRowError: none, or it could be two.
        """
        last = len(choices) - 1
        valid = f"an index {self.base} to {last + self.base}, a letter A to {LETTERS[last]}, or a choice's text"
        if isinstance(answer, bool) and choices == ("no", "yes"):
            self.seen["yes or no"] = None
            return int(answer)
        if isinstance(answer, Decimal):
            return self._number(answer, len(choices), valid)
        if not isinstance(answer, str):
            raise BadRowError(f"'answer' must be {valid}")
        text = answer.strip()
        if text in labels:
            found = choices.index(text) if text in choices and len(labels) != len(choices) else labels.index(text)
            self.seen["letters" if labels[0] in LETTERS else "labels"] = None
            return found
        letter = _letter(text, len(choices))
        exact = choices.index(text) if text in choices else -1
        if self.digits and text.isdecimal():
            return self._number(Decimal(text[:9]), len(choices), valid)
        if letter >= 0 and exact >= 0 and letter != exact:
            raise BadRowError(f"answer {text!r} is the letter of one choice and the text of another; give the index")
        if max(letter, exact) < 0:
            raise BadRowError(f"answer {text[:40]!r} names none of the {len(choices)} choices; give {valid}")
        self.seen["letters" if letter >= 0 else "texts of choices"] = None
        return max(letter, exact)

    def _number(self, answer: Decimal, count: int, valid: str) -> int:
        if not _whole(answer) or not 0 <= answer - self.base < count:
            raise BadRowError(f"answer {answer} is out of range for {count} choices; give {valid}")
        self.seen[f"indexes from {self.base}"] = None
        return int(answer) - self.base

    def words(self) -> str:
        """Return how answers name choices, for people."""
        return ", ".join(self.seen)


def _whole(answer: Decimal) -> bool:
    return answer == answer.to_integral_value()


def _letter(text: str, count: int) -> int:
    match = re.fullmatch(r"\(?([A-Za-z])[).:]?", text)
    return LETTERS[:count].find(match[1].upper()) if match else -1


def _base(indexes: Sequence[tuple[int, int]], *, own: bool) -> int:
    """Return what indexes count from, given with the number of choices of each."""
    if not indexes or any(index <= 0 or index > count for index, count in indexes):
        return 0
    top = any(index == count for index, count in indexes)
    if top and (not own or len(indexes) >= ENOUGH):
        return 1
    if own:
        return 0
    raise BadRowError(
        "the answers are indexes that may count from 0 as well as from 1; say which: --map answer=KEY:0 or answer=KEY:1"
    )
