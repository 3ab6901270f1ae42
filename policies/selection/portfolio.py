"""The portfolio policy: one fixed order of strategies for every task, made from what they came to in practice.

The order is greedy. The loop stops at the first strategy that is accepted, so each one is that which gains most in the
practised situations where none before it is accepted. Behind those stands the rest of the grid, so that no attempt is
spent on a strategy twice.

Source: Streeter and Golovin, 2008 (greedy schedules, at most four times as late as the best one); Xu, Hoos and
Leyton-Brown, Hydra, 2010 (portfolios of settings).
"""

from collections.abc import Mapping, Sequence

from cao.files import canonical_json
from cao.types import StrategyFields
from policies.base import PolicyContext
from policies.messages import plain_json

Gains = Mapping[str, float]
"""A strategy's canonical JSON → what the loop would gain by it (``Comparison.worth``); 0 where it is not accepted."""


def greedy_order(situations: Sequence[Gains]) -> list[str]:
    """Return the strategies, by their canonical JSON, that gain most where none before them is accepted.

    Args:
        situations: the gains in each practised situation; what is missing there, or gains 0, is not accepted.
    """
    left, order = list(situations), list[str]()
    names = sorted({name for gains in situations for name in gains})
    while names:
        added = {name: sum(gains.get(name, 0.0) for gains in left) for name in names}
        name = max(names, key=lambda one: added[one])
        if added[name] <= 0:
            break
        order.append(name)
        left = [gains for gains in left if not gains.get(name)]
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
        left = [s for s in able if canonical_json(s) not in context.spent] or able
        return [plain_json(left[i % len(left)]) for i in range(n)]
