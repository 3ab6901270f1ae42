"""A policy whose draws are ranked by the surrogate: of several texts, the one that should gain most is proposed.

It goes beyond the paper's τ: what ranks has read numbers that the task context does not hold.
"""

from collections.abc import Sequence

from cao.files import canonical_json
from cao.strategy import StrategyRejectedError, parse_strategy
from policies.base import HasModel, Policy, PolicyContext, adapter_of
from policies.selection.surrogate import Surrogate


class RankedPolicy:
    """Draws from another policy and proposes the best.

    Attributes:
        name: of the policy that is drawn from.
        adapter_sha256: of its training, None where it has none.
        model_sha256: of the model that draws, empty where none does.
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
        self.model_sha256 = policy.model_sha256 if isinstance(policy, HasModel) else ""

    def propose(self, context: PolicyContext, n: int, seed: int) -> list[str]:
        """Return the best ``n`` of the texts drawn, the best first.

        Args:
            context: the state of the run.
            n: how many; at least so many are drawn.
            seed: of the draws.
        """
        texts = self._policy.propose(context, max(n, self._draws), seed)
        return best_first(texts, self._surrogate, context)[:n]


def best_first(texts: Sequence[str], surrogate: Surrogate, context: PolicyContext) -> list[str]:
    """Return texts, that of the highest predicted gain first, equal ones in their order.

    What was tried on the current model comes behind, and what is no strategy last.

    Args:
        texts: of a policy.
        surrogate: predicts.
        context: the state of the run.
    """
    predicted, tried = surrogate.predict(context.features), context.spent

    def worth(text: str) -> tuple[int, float]:
        try:
            strategy = parse_strategy(text).canonical()
        except StrategyRejectedError:
            return 0, 0.0
        return 1 + (canonical_json(strategy) not in tried), surrogate.worth(strategy, predicted)

    return sorted(texts, key=worth, reverse=True)
