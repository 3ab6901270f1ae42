"""The surrogate: a ridge regression that predicts a strategy's gain from what is known of a task without a label.

There is one for each point of the grid: ŷ = mean gain + w · z, with the standardised features z. The mean of a point
that was measured in few situations is drawn towards its family's. A strategy that is no point is worth what the nearest
one is. The policy proposes what is predicted to gain most.

Source: Hoerl and Kennard, 1970 (ridge); Xu et al., SATzilla, 2008 (selection of algorithms by predicted performance).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from cao.files import canonical_json
from cao.types import Record, StrategyFields
from policies.base import PolicyContext
from policies.messages import plain_json

PENALTY = 10.0
"""Of the squared weights, for features of variance 1."""

PRIOR = 3.0
"""Situations that a family's mean counts as in the mean of each of its points."""

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Point(Record):
    """What is predicted for one strategy: its mean gain (``Comparison.worth``) and a weight for each feature."""

    strategy: StrategyFields
    mean: Finite
    weights: tuple[Finite, ...]


class Surrogate(Record):
    """A fitted regression.

    Attributes:
        features: names, in the order of everything below.
        centre: of each feature in practice.
        scale: its standard deviation there, 1 where it has none.
        points: the strategies.
    """

    features: tuple[str, ...]
    centre: tuple[Finite, ...]
    scale: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]
    points: tuple[Point, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        """Everything has an entry for each feature."""
        lengths = {len(self.features), len(self.centre), len(self.scale), *(len(each.weights) for each in self.points)}
        if len(lengths) > 1:
            raise ValueError("features, centre, scale and weights differ in length")
        return self

    def predict(self, features: Mapping[str, float]) -> dict[str, float]:
        """Return the predicted gain of each point by its canonical JSON; a missing feature is an average one."""
        given = [features.get(name, centre) for name, centre in zip(self.features, self.centre, strict=True)]
        z = [(value - c) / s for value, c, s in zip(given, self.centre, self.scale, strict=True)]
        return {
            canonical_json(point.strategy): point.mean + sum(w * v for w, v in zip(point.weights, z, strict=True))
            for point in self.points
        }

    def worth(self, strategy: StrategyFields, predicted: Mapping[str, float]) -> float:
        """Return what is predicted for any strategy, of a new family 0.

        One that is no point is worth what the nearest point with the same words is, numbers compared by their ratios;
        beyond the grid, where nothing was measured, it is worth what its family's worst point is.
        """
        key = canonical_json(strategy)
        if key in predicted:
            return predicted[key]
        kin = [point.strategy for point in self.points if point.strategy["family"] == strategy["family"]]
        if not kin:
            return 0.0
        alike = [one for one in kin if _words(one) == _words(strategy)]
        if not alike or not all(_within(strategy[name], [one[name] for one in alike]) for name in _numbers(strategy)):
            return min(predicted[canonical_json(one)] for one in kin)
        nearest = min(alike, key=lambda one: (_distance(one, strategy), canonical_json(one)))
        return predicted[canonical_json(nearest)]


def _numbers(strategy: StrategyFields) -> dict[str, float]:
    return {name: float(v) for name, v in strategy.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _words(strategy: StrategyFields) -> dict[str, object]:
    numbers = _numbers(strategy)
    return {name: None if name in numbers else value for name, value in strategy.items()}


def _within(value: object, known: Sequence[object]) -> bool:
    numbers = [float(one) for one in known if isinstance(one, int | float)]
    return isinstance(value, int | float) and min(numbers) <= value <= max(numbers)


def _distance(one: StrategyFields, other: StrategyFields) -> float:
    """Return how far the numbers of two strategies lie apart: by their logarithms, plainly where one is 0."""
    pairs = zip(_numbers(one).values(), _numbers(other).values(), strict=True)
    return sum(abs(math.log(a / b)) if a > 0 < b else abs(a - b) for a, b in pairs)


def shrunken_means(
    gains: Sequence[Mapping[str, float]],
    strategies: Sequence[StrategyFields],
    weights: Sequence[Mapping[str, float]] | None = None,
    prior: float = PRIOR,
) -> dict[str, float]:
    """Return the mean gain of each strategy that was measured, by its canonical JSON, drawn towards its family's.

    (Σ w·y + κ·m) / (Σ w + κ) over the situations, with the weighted mean m of all gains of the family.

    Args:
        gains: of each situation: canonical JSON of a strategy → what it gains there.
        strategies: the points.
        weights: of each situation: canonical JSON of a strategy → what its gain weighs, above 0; None for 1 each.
        prior: κ.
    """
    sums, families = dict[str, tuple[float, float]](), dict[str, tuple[float, float]]()
    family_of = {canonical_json(strategy): str(strategy["family"]) for strategy in strategies}
    for key, family in family_of.items():
        rows = [(weights[i][key] if weights else 1.0, known[key]) for i, known in enumerate(gains) if key in known]
        if rows:
            sums[key] = sum(w for w, _ in rows), sum(w * y for w, y in rows)
            weight, total = families.get(family, (0.0, 0.0))
            families[family] = weight + sums[key][0], total + sums[key][1]
    usual = {family: total / weight for family, (weight, total) in families.items()}
    return {key: (total + prior * usual[family_of[key]]) / (weight + prior) for key, (weight, total) in sums.items()}


def fit(
    features: Sequence[Mapping[str, float]],
    gains: Sequence[Mapping[str, float]],
    strategies: Sequence[StrategyFields],
    penalty: float = PENALTY,
    *,
    weights: Sequence[Mapping[str, float]] | None = None,
    prior: float = PRIOR,
) -> Surrogate:
    """Fit the regression to n practised situations.

    Args:
        features: of each situation; all have the same names.
        gains: of each situation: canonical JSON of a strategy → what it gains there. A strategy that was not
            measured in a situation does not learn from it.
        strategies: the points.
        penalty: of the squared weights.
        weights: of each situation: canonical JSON of a strategy → what its gain weighs, above 0; None for 1 each.
        prior: situations that a family's mean counts as, see ``shrunken_means``.
    """
    assert len(features) == len(gains) > 0, (len(features), len(gains))
    names = tuple(sorted(features[0]))
    table = np.array([[row[name] for name in names] for row in features], dtype=float)
    centre, spread = table.mean(0), table.std(0)
    scale = np.where(spread > 0, spread, 1.0)
    z = (table - centre) / scale
    points, means = [], shrunken_means(gains, strategies, weights, prior)
    for strategy in strategies:
        key = canonical_json(strategy)
        rows = [i for i, known in enumerate(gains) if key in known]
        if not rows:
            continue
        x, y = z[rows], np.array([gains[i][key] for i in rows])
        counts = np.array([weights[i][key] if weights else 1.0 for i in rows])
        weighted, about = x.T * counts, y - np.average(y, weights=counts)
        found = np.linalg.solve(weighted @ x + penalty * np.eye(len(names)), weighted @ about)
        points.append(Point(strategy=strategy, mean=means[key], weights=tuple(found.tolist())))
    return Surrogate(features=names, centre=tuple(centre.tolist()), scale=tuple(scale.tolist()), points=tuple(points))


class SurrogatePolicy:
    """Proposes what the surrogate predicts to gain most.

    Attributes:
        name: ``surrogate``.
    """

    name = "surrogate"

    def __init__(self, surrogate: Surrogate) -> None:
        """Take a fitted regression."""
        self._surrogate = surrogate

    def propose(self, context: PolicyContext, n: int, seed: int) -> list[str]:
        """Return the ``n`` best strategies whose families can act and that this run has not tried, the best first.

        Args:
            context: the state of the run.
            n: how many.
            seed: changes nothing.
        """
        predicted = self._surrogate.predict(context.features)
        able = context.able(dict(point.strategy) for point in self._surrogate.points)
        left = [s for s in able if canonical_json(s) not in context.spent] or able
        ranked = sorted(left, key=lambda s: -predicted[canonical_json(s)])
        return [plain_json(ranked[i % len(ranked)]) for i in range(n)]
