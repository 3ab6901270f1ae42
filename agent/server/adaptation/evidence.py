"""Whether feedback says that an adopted model is worse than the deployed one: a bet that may be looked at always."""

from cao.types import Record

FRACTIONS = (0.25, 0.5, 0.75)
"""Shares of the stake that are bet, of what may be lost at most."""
ROLLED_BACK = 20.0
"""What the stake must have grown to: of models that are no worse, one in twenty is taken back at most, ever."""
SUREST = 0.99
"""No deployed model is taken to be right more often."""


class Evidence(Record):
    """What feedback on one adopted model came to.

    Bets that it is right less often than the deployed model was; under the contrary the stake does not grow in the
    mean, whenever it is looked at.

    Attributes:
        level: accuracy of the deployed model, measured by the run that adopted this one.
        right, asked: of the answers that feedback spoke of.
        stakes: what one unit has become, for each of ``FRACTIONS``.

    Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, 2024.
    """

    level: float
    right: int = 0
    asked: int = 0
    stakes: tuple[float, ...] = (1.0,) * len(FRACTIONS)

    @property
    def stake(self) -> float:
        """The mean over the bets."""
        return sum(self.stakes) / len(self.stakes)

    @property
    def worse(self) -> bool:
        """Whether the adopted model is to be taken back."""
        return self.stake >= ROLLED_BACK

    def told(self, *, correct: bool) -> "Evidence":
        """Return it behind one more answer."""
        level = min(self.level, SUREST)
        won = [1 + share / (1 - level) * (level - correct) for share in FRACTIONS]
        stakes = tuple(min(1e12, stake * each) for stake, each in zip(self.stakes, won, strict=True))
        return Evidence(level=self.level, right=self.right + correct, asked=self.asked + 1, stakes=stakes)
