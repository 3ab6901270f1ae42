"""Numbers in running text: finding them, comparing them, and choosing wrong ones near a right one."""

import random
import re
from collections.abc import Iterable
from decimal import Decimal

NUMBER = re.compile(
    r"(?<![\w.,])[-−]?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.,])[-−]?\$?\.\d+|\d+(?:\.\d+)?"
)
"""One number as people write it: sign, dollar sign, commas between thousands, decimals."""


def numbers_in(text: str) -> list[Decimal]:
    """Return the numbers of a text in order; a hyphen between two numbers is no sign."""
    return [_decimal(match.group()) for match in NUMBER.finditer(text)]


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("$", "").replace("−", "-"))


def as_number(text: str) -> Decimal | None:
    """Return the number that a whole text is (``1,450``, ``$12``, ``-3.50``, ``20%``), or None."""
    stripped = text.strip().removesuffix("%")
    return _decimal(stripped) if NUMBER.fullmatch(stripped) else None


def stated_number(text: str) -> Decimal | None:
    """Return the number that a worked answer ends in: behind ``####``, else the last one, else None."""
    _, mark, after = text.partition("####")
    marked = numbers_in(after) if mark else []
    if marked:
        return marked[0]
    numbers = numbers_in(text)
    return numbers[-1] if numbers else None


def near_misses(gold: int, rng: random.Random) -> Iterable[int]:
    """Yield whole numbers other than ``gold``, likely slips first in seeded order, without end.

    The first ones are what a wrong last step gives (twice, half, ten times, one or a few off, a tenth more or
    less).
    """
    slips = [
        gold * 2,
        gold // 2,
        gold * 10,
        gold + gold // 10,
        gold - gold // 10,
        *(gold + d for d in (-10, -5, -2, -1, 1, 2, 5, 10)),
    ]
    rng.shuffle(slips)
    yield from (slip for slip in slips if slip != gold and (slip >= 0 or gold < 0))
    step = 11
    while True:
        yield gold + step
        step += rng.randint(1, 9)
