"""Free-text answers of a row: one text or number, or several that are right."""

from decimal import Decimal

from cao.tasks.base import as_read
from cao.tasks.files.rows import text_of
from cao.tasks.graders import as_auto
from cao.types import Example

MAX_ACCEPTED = 64
MISSING = {"nan", "NaN", "N/A", "n/a", "NA", "<NA>", "null", "NULL", "None"}
"""What tables write where a label is missing."""


def is_absent(value: object, *, named: bool = False, label: bool = False) -> bool:
    """Return whether an answer says nothing: empty, or the −1 of a data set's hidden labels.

    Args:
        value: as the file has it.
        named: whether the file names its numbers; −1 is no name.
        label: whether it is a label, where a word for a missing value is none.
    """
    if isinstance(value, dict):
        return all(is_absent(each) for key, each in value.items() if key in ("text", "value", "answer"))
    if isinstance(value, list):
        return all(is_absent(each) for each in value)
    if isinstance(value, str):
        return not value.strip() or (label and value.strip() in MISSING)
    return value is None or (named and value == Decimal(-1))


def accepted_texts(answer: object) -> tuple[str, ...]:
    """Return the texts that are right, the first of them the one that is shown; each once.

    Args:
        answer: a text (of a worked answer that ends in ``#### 18`` only the end counts), a number, a list of texts or
            of objects with ``text``, SQuAD's object of lists, or an object with ``value`` and ``aliases``.

    Raises:
        BadRowError: anything else.
    """
    if isinstance(answer, dict):
        texts = answer.get("text", answer.get("value"))
        answer = [*(texts if isinstance(texts, list) else [texts]), *_list(answer.get("aliases"))]
    if isinstance(answer, list):
        each = [one.get("text") if isinstance(one, dict) else one for one in answer]
        return tuple(dict.fromkeys(_gold(text) for text in each[:MAX_ACCEPTED]))
    return (_gold(answer),)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _gold(answer: object) -> str:
    if isinstance(answer, Decimal):
        return f"{answer:f}"
    text = text_of(answer, "'answer' (without choices)")
    _, mark, end = text.rpartition("####")
    return text_of(end, "the answer behind ####") if mark else text


def same_answer(one: Example, other: Example) -> bool:
    """Return whether two gold answers to a question are the same: the same choice, or free texts graded alike."""
    if one.choices:
        return as_read(one.gold_text) == as_read(other.gold_text)
    return as_auto(one.gold_text, other) and as_auto(other.gold_text, one)
