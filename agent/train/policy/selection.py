"""What practice teaches about choosing strategies: a portfolio and a surrogate, and how well they do on other tasks.

Both are fitted to the landscape of the practised situations. How good they are is estimated by leaving out one task
at a time: with all of its situations, so that another seed of the same task teaches nothing about it.
"""

from collections.abc import Callable, Sequence
from statistics import fmean

from pydantic import JsonValue

from agent.train.policy.rest_em import Judged
from agent.train.policy.situations import Situation
from cao.files import canonical_json
from cao.strategies import FAMILIES, Strategy
from cao.tasks.same_problems import saw
from cao.types import Record, StrategyFields
from policies.grid import grid
from policies.selection.learnt import Selection
from policies.selection.portfolio import greedy_order
from policies.selection.surrogate import Surrogate, fit, shrunken_means

ATTEMPTS = 4
"""Attempts that a loop is judged by."""


class Practised(Record):
    """One situation whose landscape is known.

    Attributes:
        name: of the situation.
        task: its task.
        features: what is known of it without a label.
        change: canonical JSON of a point of the grid → what it is worth (``Comparison.worth``), accepted or not.
        asked: canonical JSON of a point → the share of the answers that its change is of; a point without prospects is
            dropped early, and its change is the less certain for it.
        accepted: canonical JSON of each accepted one → what the loop gains by it.
    """

    name: str
    task: str
    features: dict[str, float]
    change: dict[str, float]
    asked: dict[str, float]
    accepted: dict[str, float]

    @property
    def gains(self) -> dict[str, float]:
        """Every measured strategy → what the loop gains by it, 0 where it is not accepted."""
        return {name: self.accepted.get(name, 0.0) for name in self.change}


def practised(situations: Sequence[Situation]) -> list[Practised]:
    """Return the situations in which points of the grid were measured; what else was tried there has no part."""
    found, wanted = [], {canonical_json(strategy) for strategy in points()}
    for situation in situations:
        judged = {k: j for k, j in situation.known().items() if k in wanted}
        known = {k: j.comparison for k, j in judged.items() if j.comparison is not None}
        if known:
            change = {name: comparison.worth for name, comparison in known.items()}
            asked = {name: asked_of(judged[name], situation) for name in known}
            accepted = {name: change[name] for name, comparison in known.items() if comparison.accepted}
            features = situation.state["features"]
            found.append(
                Practised(
                    name=situation.name,
                    task=situation.bench.task.name,
                    features=features,
                    change=change,
                    asked=asked,
                    accepted=accepted,
                )
            )
    return found


def asked_of(judged: Judged, situation: Situation) -> float:
    """Return the share of the reward questions, and of a strategy's adapters, that a figure is of."""
    return judged.members * judged.questions / len(situation.bench.splits.reward)


def measured_points(situation: Situation) -> list[tuple[Strategy, Judged]]:
    """Return the grid's points that were measured in a situation; what cannot act there is none of them."""
    known = situation.known()
    found = [(point, known.get(canonical_json(point.canonical()))) for point in grid(situation.context.families)]
    return [(point, judged) for point, judged in found if judged is not None and judged.comparison is not None]


def points() -> list[StrategyFields]:
    """Return the grid as JSON objects."""
    return [strategy.canonical() for strategy in grid(FAMILIES)]


def portfolio_of(known: Sequence[Practised]) -> list[str]:
    """Return the portfolio of some situations: what was accepted, then the rest of the grid, the best on average first.

    It is empty where nothing was accepted in any of them.
    """
    order = greedy_order([one.gains for one in known])
    means = shrunken_means([one.change for one in known], points(), [one.asked for one in known])
    rest = sorted((name for name in means if name not in order), key=lambda name: (-means[name], name))
    return [*order, *rest] if order else []


def surrogate_of(known: Sequence[Practised]) -> Surrogate:
    """Return the surrogate of some situations."""
    weights = [one.asked for one in known]
    return fit([one.features for one in known], [one.change for one in known], points(), weights=weights)


def ranked_by(surrogate: Surrogate, one: Practised) -> list[str]:
    """Return the strategies measured in a situation, the one predicted to be best first."""
    predicted = surrogate.predict(one.features)
    return sorted((name for name in predicted if name in one.change), key=lambda name: -predicted[name])


Chooser = Callable[[Sequence[Practised], Practised], list[str]]
"""(situations to learn from, the situation at hand) → strategies in the order in which they are tried."""

CHOOSERS: dict[str, Chooser] = {
    "portfolio": lambda known, one: [name for name in portfolio_of(known) if name in one.change],
    "surrogate": lambda known, one: ranked_by(surrogate_of(known), one),
}


def all_apart(known: Sequence[Practised]) -> bool:
    """Return whether each situation has another to learn from whose task shares no problems with its own."""
    tasks = {one.task for one in known}
    return bool(tasks) and all(any(not saw(task, [other]) for other in tasks) for task in tasks)


def apart(known: Sequence[Practised], chooser: Chooser) -> list[tuple[bool, float]]:
    """Return, for each situation, what a chooser does that learnt from all other tasks.

    Args:
        known: the situations.
        chooser: who chooses.

    Returns:
        Whether the first attempt is accepted, and the gain of the first accepted one of ``ATTEMPTS``.
    """
    found = []
    for one in known:
        order = chooser([other for other in known if not saw(one.task, [other.task])], one)[:ATTEMPTS]
        first = next((one.accepted[name] for name in order if name in one.accepted), 0.0)  # it may be a loss
        found.append((bool(order and order[0] in one.accepted), first))
    return found


def summary(known: Sequence[Practised]) -> dict[str, dict[str, float]]:
    """Return row → share of first attempts that are accepted, and mean gain of a loop, by leaving each task out."""
    rows = {name: apart(known, chooser) for name, chooser in CHOOSERS.items()}
    best = [max(one.accepted.values(), default=0.0) for one in known]
    chance = [len(one.accepted) / len(one.change) for one in known]
    return {
        **{
            name: {"first": fmean(first for first, _ in row), "gain": fmean(gain for _, gain in row)}
            for name, row in rows.items()
        },
        "a point by lot": {"first": fmean(chance), "gain": fmean(map(_expected, known))},
        "oracle": {"first": fmean(bool(one.accepted) for one in known), "gain": fmean(best)},
    }


def _expected(one: Practised) -> float:
    """Return the expected gain of ATTEMPTS points drawn without replacement, stopping at the first accepted one."""
    total, won, left = len(one.change), len(one.accepted), 1.0
    for attempt in range(min(ATTEMPTS, total)):
        left *= (total - won - attempt) / (total - attempt) if total - attempt > won else 0.0
    return (1 - left) * fmean(one.accepted.values()) if won else 0.0


def selection_of(known: Sequence[Practised], base_sha256: str) -> Selection | None:
    """Return what all practised situations teach together, None where no strategy was accepted in any.

    Args:
        known: the situations.
        base_sha256: hash of the base model's weights.
    """
    by_key = {canonical_json(strategy): strategy for strategy in points()}
    order = [by_key[name] for name in portfolio_of(known)]
    if not order:
        return None
    made: dict[str, JsonValue] = {
        "situations": [*sorted(one.name for one in known)],
        "tasks": [*sorted({one.task for one in known})],
    }
    return Selection(base_sha256=base_sha256, portfolio=tuple(order), surrogate=surrogate_of(known), made=made)
