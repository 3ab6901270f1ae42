"""What is said of a claim of the paper, by whatever table."""

from typing import Literal

from cao.types import Record

HOLDS, FAILS = "holds here", "does not hold here"
UNTESTED, UNMEASURED = "cannot be tested here", "not measured yet"

Said = Literal["holds here", "does not hold here", "cannot be tested here", "not measured yet"]


class Verdict(Record):
    """What is said of a claim.

    Attributes:
        claim: in words.
        verdict: whether it holds here.
        figure: that decides it, empty where there is none.
        command: that measures it.
        reason: what the figure is of, or why there is none.
        beyond: whether the paper does not make the claim: a comparison that it has no figure of.
    """

    claim: str
    verdict: Said
    figure: str = ""
    command: str
    reason: str = ""
    beyond: bool = False
