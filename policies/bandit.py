"""A bandit over the strategy grid: Thompson sampling with a Beta prior an arm, blind to the context.

Source: Thompson (1933); Chapelle and Li, An Empirical Evaluation of Thompson Sampling (2011), algorithm 2.
"""

import random
from collections.abc import Mapping

from cao.files import canonical_json
from cao.strategies import FAMILIES
from cao.types import StrategyFields
from policies.base import PolicyContext
from policies.grid import grid
from policies.messages import plain_json

PRIOR = (1.0, 1.0)
"""Successes and failures that every arm begins with."""


class BanditPolicy:
    """Takes the arm whose success rate, drawn from its posterior, is highest.

    Attributes:
        name: ``bandit``.
    """

    name = "bandit"

    def __init__(self, seen: Mapping[str, tuple[int, int]]) -> None:
        """Take what is known of the arms.

        Args:
            seen: a strategy's canonical JSON → (successes, failures), from tasks that it may learn from.
        """
        self._seen = seen

    def propose(self, context: PolicyContext, n: int, seed: int) -> list[str]:
        """Return ``n`` arms, each by a draw of its own; what failed in this run is not taken again.

        Args:
            context: the state of the run.
            n: how many.
            seed: equal seeds give equal texts.
        """
        rng = random.Random(seed)
        tried = context.spent
        arms = context.able(arm.canonical() for arm in grid(context.families or tuple(FAMILIES)))
        arms = [arm for arm in arms if canonical_json(arm) not in tried] or arms
        return [plain_json(max(arms, key=lambda arm: rng.betavariate(*self._posterior(arm)))) for _ in range(n)]

    def _posterior(self, arm: StrategyFields) -> tuple[float, float]:
        won, lost = self._seen.get(canonical_json(arm), (0, 0))
        return PRIOR[0] + won, PRIOR[1] + lost
