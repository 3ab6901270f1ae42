"""The random policy: any valid strategy, the yardstick of every other."""

import math
import random

from cao.files import canonical_json
from cao.strategies import FAMILIES
from cao.strategies.base import SettingRule, Withheld
from cao.strategy import StrategyRejectedError, validate_strategy
from cao.types import StrategyFields
from policies.base import PolicyContext
from policies.messages import plain_json

REDRAWN = 1000
"""How often a strategy is drawn that was not tried; families without numbers have few."""


class RandomPolicy:
    """Draws a family that can act, then each value within its bounds; rates by their logarithm.

    Attributes:
        name: ``random``.
    """

    name = "random"

    def propose(self, context: PolicyContext, n: int, seed: int) -> list[str]:
        """Return ``n`` strategies, not tried yet in this run as far as draws find such.

        Args:
            context: the state of the run.
            n: how many.
            seed: equal seeds give equal texts.
        """
        rng, families = random.Random(seed), list(context.families or FAMILIES)
        tried = context.spent
        texts: list[str] = []
        for _ in range(n):
            for _ in range(REDRAWN):
                family = rng.choice(families)
                strategy = draw(family, rng, context.withheld.get(family))
                if canonical_json(strategy) not in tried:
                    break
            texts.append(plain_json(strategy))
        return texts


def draw(family: str, rng: random.Random, withheld: Withheld | None = None) -> StrategyFields:
    """Return one valid strategy of a family as its canonical JSON object.

    Args:
        family: its name.
        rng: where the randomness comes from.
        withheld: values of its keys that are not drawn.
    """
    rules = FAMILIES[family].schema_of(withheld)["properties"]
    while True:  # a bound may depend on another key
        values = {key: _value(rule, rng) for key, rule in rules.items() if key != "family"}
        try:
            return validate_strategy({"family": family, **values}).canonical()
        except StrategyRejectedError:
            continue


def _value(rule: SettingRule, rng: random.Random) -> bool | int | float | str:
    if "enum" in rule:
        return rng.choice(rule["enum"])
    if rule["type"] == "boolean":
        return rng.random() < 0.5
    low, high = rule["minimum"], rule["maximum"]
    if rule["type"] == "integer":
        return rng.randint(int(low), int(high))
    if low > 0:  # a rate
        return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.1e}")
    return round(rng.uniform(low, high), 2)
