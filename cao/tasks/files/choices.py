"""The choices of a row: a list, an object of letters, texts beside labels, or a column each."""

from collections.abc import Sequence
from decimal import Decimal

from cao.tasks.base import LETTERS
from cao.tasks.files.keys import CLASS_KEYS, Keys, letter_of, plain_key
from cao.tasks.files.rows import BadRowError, number_of, text_of, truth_of

MAX_CLASS_CHARS = 60
_TEXTS, _LABELS = ("text", "value", "content", "option"), ("label", "key", "id", "letter")
"""Keys of a choice that is an object, and of an object of lists."""


def choices_of(values: dict[str, object], keys: Keys) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a row's choices, "" where it leaves one out, and their labels, where it states some.

    Args:
        values: the row.
        keys: where they are.

    Raises:
        BadRowError: there are too few or too many, or one is no text.
    """
    if keys.wrong and keys.answer:
        wrong = [each for key in keys.wrong for each in _several(values.get(key)) if each is not None]
        return _checked(sorted({_plain(each) for each in (values.get(keys.answer), *wrong)})), ()
    if len(keys.choices) > 1:
        return _checked([values.get(key) for key in keys.choices], gaps=True), _letters(keys.choices)
    if not keys.choices or keys.choices[0] not in values:
        return (), ()
    value = values[keys.choices[0]]
    if isinstance(value, str) and "|" in value:
        value = value.split("|")
    if isinstance(value, dict):
        texts, labels = (next((value[k] for k in names if k in value), None) for names in (_TEXTS, _LABELS))
        if isinstance(texts, list):
            return _checked(texts), _labels(labels, len(texts))
        return _checked(list(value.values()), gaps=True), tuple(value)
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        texts = [next((each[k] for k in _TEXTS if k in each), None) for each in value]
        return _checked(texts), _labels([next((each[k] for k in _LABELS if k in each), None) for each in value], 0)
    return _checked(value), ()


def _several(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _plain(value: object) -> str:
    return f"{value:f}" if isinstance(value, Decimal) else value.strip() if isinstance(value, str) else ""


def _letters(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the letters that the names of columns end in, none where their places say the same."""
    letters = tuple(letter_of(key) for key in keys)
    usable = all(letters) and len(set(letters)) == len(letters) and not LETTERS.startswith("".join(letters))
    return letters if usable else ()


def _checked(value: object, *, gaps: bool = False) -> tuple[str, ...]:
    """Return texts, "" in the place of one that is not there where there may be gaps."""
    texts = value if isinstance(value, list) else []
    there = [each for each in texts if not gaps or (each is not None and each != "")]
    if not 2 <= len(there) <= len(LETTERS):
        raise BadRowError(f"'choices' must be a list of 2 to {len(LETTERS)} texts; leave it out for free text")
    if all(isinstance(each, Decimal) for each in there):
        texts = [f"{each:f}" if isinstance(each, Decimal) else each for each in texts]
    return tuple(
        "" if gaps and (choice is None or choice == "") else text_of(choice, f"choice {i}")
        for i, choice in enumerate(texts)
    )


def _labels(value: object, count: int) -> tuple[str, ...]:
    """Return the labels of choices, none where they are no different texts."""
    labels = tuple(_plain(each) for each in value) if isinstance(value, list) else ()
    usable = all(labels) and len(set(labels)) == len(labels) and len(labels) == (count or len(labels))
    return labels if usable else ()


def is_label(keys: Keys) -> bool:
    """Return whether answers are labels: words that are the same in the whole file."""
    return bool(keys.answer) and not keys.choices and not keys.wrong and plain_key(keys.answer or "") in CLASS_KEYS


def classes_of(answers: Sequence[object], keys: Keys, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words that answers are taken from where a file has no choices but labels; empty where it has none.

    Args:
        answers: those that are there.
        keys: where the rows have what.
        names: of numbers, where the file states them.

    Raises:
        BadRowError: labels are numbers that nothing names.
    """
    if keys.choices or keys.wrong:
        return ()
    if names:
        return names if 2 <= len(set(names)) == len(names) <= len(LETTERS) and all(names) else ()
    if all(truth_of(answer) is not None for answer in answers):
        return ("no", "yes")
    words = {answer.strip() for answer in answers if isinstance(answer, str)}
    if {word.casefold() for word in words} == {"yes", "no"} and len(words) == 2:
        return tuple(sorted(words))
    if not is_label(keys):
        return ()
    if all(number_of(answer) is not None for answer in answers):
        raise BadRowError(f"{keys.answer!r} holds numbers that nothing names; give names in their place, or choices")
    few = 2 <= len(words) <= min(len(LETTERS), len(answers) // 2) and all(0 < len(w) <= MAX_CLASS_CHARS for w in words)
    return tuple(sorted(words)) if few else ()
