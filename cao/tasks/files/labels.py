"""Which choice an answer names: by index, letter, label or text, the same way in a whole file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from cao.tasks.base import LETTERS
from cao.tasks.files.keys import letter_of
from cao.tasks.files.rows import BadRowError, number_of, truth_of

ENOUGH = 10
"""Rows from which on a file with this project's own names, whose indexes count from 0, may be seen to count from 1."""

Texts = tuple[str, ...]
Answer = tuple[object, Texts, Texts]
"""An answer as the file has it, the choices ("" where the row leaves one out), and the labels that the file states."""
Numbers = Sequence[tuple[Decimal, Texts]]
"""Answers that are numbers, each with its choices."""

_DIGITS = re.compile(r"0*(\d{1,30})(\.0{1,30})?")
_LETTER = re.compile(r"\(?([A-Za-z])[).:]?")


@dataclass
class LabelRule:
    """How the answers of one file name choices.

    Attributes:
        base: what indexes count from.
        stated: whether the user said so.
        by_text: whether an answer that is a choice's text is that choice, whatever else it could be.
        by_label: whether numbers are labels where a row states such labels.
        names: what the numbers 0, 1, … stand for, where the file says so.
        seen: the ways that were met, for people.
    """

    base: int = 0
    stated: bool = False
    by_text: bool = False
    by_label: bool = False
    names: Texts = ()
    seen: dict[str, None] = field(default_factory=dict)

    @classmethod
    def of(
        cls, answers: Sequence[Answer], *, base: int | None, own: bool, by_text: bool = False, names: Texts = ()
    ) -> "LabelRule":
        """Return the rule that a file's answers follow.

        Args:
            answers: all of them.
            base: what indexes count from, None where that is to be found out.
            own: whether the file has this project's own names, by which they count from 0.
            by_text: whether the answers are known to be texts of choices.
            names: of the file's numbers, which then count from 0.

        Raises:
            BadRowError: they may count from 0 as well as from 1, or be texts as well as indexes.
        """
        if base is not None:
            return cls(base, stated=True)
        if by_text or names:
            return cls(by_text=by_text, names=names)
        numbers = [
            (number, choices, labels)
            for answer, choices, labels in answers
            if (number := number_of(answer)) is not None
        ]
        labelled = [(number, labels) for number, _, labels in numbers if _has_digits(labels)]
        by_label = bool(labelled) and all(_by_label(f"{number:f}", labels) >= 0 for number, labels in labelled)
        left = [(number, choices) for number, choices, labels in numbers if not (by_label and _has_digits(labels))]
        if _are_texts(left, words=[text for text, choices, _ in answers if text in choices and not _is_mark(text)]):
            return cls(by_text=True, by_label=by_label)
        return cls(_base(left, own=own), by_label=by_label)

    def index(self, answer: object, choices: Texts, labels: Texts) -> int:
        """Return which choice an answer names.

        Args:
            answer: as the file has it.
            choices: texts, "" where the row leaves one out.
            labels: of the choices, where the file states them.

        Raises:
            BadRowError: none, or it could be two.
        """
        last = len(choices) - 1
        valid = (
            f"an index {self.base} to {last + self.base}, a letter A to {LETTERS[: last + 1][-1]}, or a choice's text"
        )
        if (truth := truth_of(answer)) is not None and choices == ("no", "yes"):
            self.seen["yes or no"] = None
            return int(truth)
        if not isinstance(answer, str | Decimal):
            raise BadRowError(f"'answer' must be {valid}")
        text = answer.strip() if isinstance(answer, str) else f"{answer:f}"
        number, exact = number_of(answer), _exact(text, choices)
        if self.by_text and exact >= 0:
            self.seen["texts of choices"] = None
            return exact
        if number is None or (self.by_label and _has_digits(labels)):
            found = self._spoken(text, exact, choices, labels, valid)
        elif self.by_text:
            raise BadRowError(f"answer {text[:40]!r} names none of the {len(choices)} choices; give a choice's text")
        else:
            found = self._number(number, choices, labels, valid)
        if not choices[found]:
            raise BadRowError(f"answer {text[:40]!r} names a choice that is empty; give its text, or leave the row out")
        return found

    def _spoken(self, text: str, exact: int, choices: Texts, labels: Texts, valid: str) -> int:
        """Return the choice of a label, a letter or a text."""
        letter = _by_label(text, labels)
        if letter < 0 and _in_order(labels):
            letter = _letter(text, len(choices))
        if letter >= 0 and exact >= 0 and letter != exact and text not in labels:
            raise BadRowError(f"answer {text!r} is the letter of one choice and the text of another; give the index")
        if max(letter, exact) < 0:
            raise BadRowError(f"answer {text[:40]!r} names none of the {len(choices)} choices; give {valid}")
        how = "letters" if not labels or _LETTER.fullmatch(labels[0]) else "labels"
        self.seen[how if letter >= 0 else "texts of choices"] = None
        return letter if letter >= 0 else exact

    def _number(self, answer: Decimal, choices: Texts, labels: Texts, valid: str) -> int:
        """Return the choice of an index, or of the name that a number stands for."""
        name = self.names[int(answer)] if _fits(answer, 0, self.names) else ""
        marked = bool(self.names) and _is_mark(self.names[0]) and _in_order(self.names)
        if self.names and not marked and set(choices) <= {*self.names, ""}:
            if not name or name not in choices:
                raise BadRowError(f"answer {answer} stands for {name[:40]!r}, which is none of the choices")
            self.seen["names of labels"] = None
            return choices.index(name)
        if not _whole(answer) or not 0 <= answer - self.base < len(choices):
            raise BadRowError(f"answer {answer} is out of range for {len(choices)} choices; give {valid}")
        if not self.stated and not _in_order(self.names or labels):
            raise BadRowError(
                f"answer {answer} may be a place or a label (they are {', '.join(self.names or labels)[:40]}); "
                "give letters or texts, or say what places count from: --map answer=KEY:0 or answer=KEY:1"
            )
        self.seen[f"indexes from {self.base}"] = None
        return int(answer) - self.base

    def words(self) -> str:
        """Return how answers name choices, for people."""
        return ", ".join(self.seen)


def _whole(answer: Decimal) -> bool:
    return answer == answer.to_integral_value()


def _fits(number: Decimal, base: int, choices: Texts) -> bool:
    """Return whether a number is the index of a choice that is there."""
    return _whole(number) and 0 <= number - base < len(choices) and choices[int(number) - base] != ""


def _letter(text: str, count: int) -> int:
    match = _LETTER.fullmatch(text)
    return LETTERS[:count].find(match[1].upper()) if match else -1


def _mark(label: str) -> str:
    """Return a label without case, and without what stands around its letter or number (``option_a``, ``(A)``)."""
    digits, letter = _DIGITS.fullmatch(label), _LETTER.fullmatch(label)
    return str(int(digits[1])) if digits else (letter[1] if letter else letter_of(label) or label).casefold()


def _is_mark(label: object) -> bool:
    """Return whether a label is a letter or a whole number."""
    return isinstance(label, str) and bool(_DIGITS.fullmatch(label) or _LETTER.fullmatch(label) or letter_of(label))


def _has_digits(labels: Texts) -> bool:
    return any(_DIGITS.fullmatch(label) for label in labels)


def _in_order(labels: Texts) -> bool:
    """Return whether places and labels agree: labels are words, or A, B, C, or the numbers from 0 or from 1."""
    if not any(_is_mark(label) for label in labels):
        return True
    marks, count = [_mark(label) for label in labels], len(labels)
    numbers = [str(number) for number in range(count + 1)]
    return marks in (list(LETTERS[:count].casefold()), numbers[:-1], numbers[1:])


def _by_label(text: str, labels: Texts) -> int:
    """Return the place of the label that a text is, −1 where it is none or might be two."""
    if text in labels:
        return labels.index(text)
    marks = [_mark(label) for label in labels]
    return marks.index(_mark(text)) if marks.count(_mark(text)) == 1 else -1


def _exact(text: str, choices: Texts) -> int:
    """Return the place of the choice whose text, or number, a text is; −1 where it is none."""
    if text in choices:
        return choices.index(text)
    number = number_of(text)
    return -1 if number is None else next((i for i, each in enumerate(choices) if number_of(each) == number), -1)


def _are_texts(numbers: Numbers, words: Sequence[object]) -> bool:
    """Return whether answers that are numbers are texts of choices, all of them.

    Args:
        numbers: the answers.
        words: other answers that are texts of choices.

    Raises:
        BadRowError: they may be indexes as well, of other choices.
    """
    texts = [_exact(f"{number:f}", choices) for number, choices in numbers]
    if not texts or min(texts) < 0:
        return False
    for base in (0, 1) if not words else ():
        valid = all(_fits(number, base, choices) for number, choices in numbers)
        if valid and texts != [int(number) - base for number, _ in numbers]:
            raise BadRowError(
                "the answers are numbers that may be indexes as well as texts of choices; "
                "say which: --map answer=KEY:text, answer=KEY:0 or answer=KEY:1"
            )
    return True


def _base(numbers: Numbers, *, own: bool) -> int:
    """Return what indexes count from."""
    indexes = [(number, choices) for number, choices in numbers if _whole(number)]
    if not indexes or not all(_fits(number, 1, choices) for number, choices in indexes):
        return 0
    top = not all(_fits(number, 0, choices) for number, choices in indexes)
    if top and (not own or len(indexes) >= ENOUGH):
        return 1
    if own:
        return 0
    raise BadRowError(
        "the answers are indexes that may count from 0 as well as from 1; say which: --map answer=KEY:0 or answer=KEY:1"
    )
