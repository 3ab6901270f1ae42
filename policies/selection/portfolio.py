"""The portfolio policy: one fixed order of strategies for every task, made from what they came to in practice.

The order is greedy: each strategy is the one that adds most to the expected gain of the best so far, over the practised
situations. Greedy reaches at least 1 − 1/e of what the best order of that length is worth.

Source: Nemhauser, Wolsey and Fisher, 1978 (the bound); Xu, Hoos and Leyton-Brown, Hydra, 2010 (portfolios of settings).
"""

from collections.abc import Mapping, Sequence

from cao.files import canonical_json
from cao.types import StrategyFields
from policies.base import PolicyContext
from policies.messages import plain_json

Gains = Mapping[str, float]
"""A strategy's canonical JSON → what the loop would gain by it (``Comparison.worth``); 0 where it is not accepted."""


def greedy_order(situations: Sequence[Gains], length: int) -> list[str]:
    """Return the strategies, by their canonical JSON, that raise the mean of the best gain most, one after the other.

    Args:
        situations: the gains in each practised situation; a strategy that is missing gains nothing there.
        length: strategies at most; those that add nothing any more are left out.
    """
    names = sorted({name for gains in situations for name in gains})
    best, order = [0.0] * len(situations), list[str]()
    for _ in range(length):
        added = {
            name: sum(max(0.0, gains.get(name, 0.0) - reached) for gains, reached in zip(situations, best, strict=True))
            for name in names
        }
        name = max(names, key=lambda one: added[one], default="")
        if not name or added[name] <= 0:
            break
        order.append(name)
        best = [max(gains.get(name, 0.0), reached) for gains, reached in zip(situations, best, strict=True)]
    return order


class PortfolioPolicy:
    """Proposes the portfolio in its order; from its end on, it begins again.

    Attributes:
        name: ``portfolio``.
    """

    name = "portfolio"

    def __init__(self, order: Sequence[StrategyFields]) -> None:
        """Take the portfolio.

        Args:
            order: strategies as JSON objects, the first one first.
        """
        self._order = [dict(strategy) for strategy in order]

    def propose(self, context: PolicyContext, n: int, seed: int) -> list[str]:
        """Return the next ``n`` strategies whose families can act and that this run has not tried.

        Args:
            context: the state of the run.
            n: how many.
            seed: changes nothing.
        """
        able = context.able(self._order)
        left = [s for s in able if canonical_json(s) not in context.tried] or able
        return [plain_json(left[i % len(left)]) for i in range(n)]
