"""A policy whose draws are ranked by the surrogate: of several texts, the one that should gain most is proposed.

It goes beyond the paper's τ: what ranks has read numbers that the task context does not hold.
"""

from cao.strategy import StrategyRejectedError, parse_strategy
from policies.base import Policy, PolicyContext, adapter_of
from policies.selection.surrogate import Surrogate


class RankedPolicy:
    """Draws from another policy and proposes the best.

    Attributes:
        name: of the policy that is drawn from.
        adapter_sha256: of its training, None where it has none.
    """

    def __init__(self, policy: Policy, surrogate: Surrogate, draws: int) -> None:
        """Take a policy and what ranks it.

        Args:
            policy: draws texts.
            surrogate: says what a strategy is worth.
            draws: texts for each proposal.
        """
        self._policy, self._surrogate, self._draws = policy, surrogate, draws
        self.name = policy.name
        self.adapter_sha256: str | None = adapter_of(policy)

    def propose(self, context: PolicyContext, n: int, seed: int) -> list[str]:
        """Return ``n`` texts, the best first; a text that is no strategy comes last, and equal ones in their order.

        Args:
            context: the state of the run.
            n: how many; at least so many are drawn.
            seed: of the draws.
        """
        texts = self._policy.propose(context, max(n, self._draws), seed)
        predicted = self._surrogate.predict(context.features)

        def worth(text: str) -> float:
            try:
                return self._surrogate.worth(parse_strategy(text).canonical(), predicted)
            except StrategyRejectedError:
                return float("-inf")

        return sorted(texts, key=worth, reverse=True)[:n]
