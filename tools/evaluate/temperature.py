"""The log-loss of choice scores at the model's own temperature, so that no scale of the scores can buy any.

A ranking by scores s says which choice is best and not how sure that is: softmax(b·s) has the same order for every
inverse temperature b > 0, and a log-loss that differs for each. So b is no part of the model here. It is fitted on one
half of the questions and judged on the other, both ways, and a model whose scores are multiplied by a constant has the
same losses. A model that knows nothing ends at b = 0, which is guessing: ln k for each question.

- Halves: the questions with two or more choices, taken alternately in the order of the hashes of their ids. Both sides
  of a comparison and every order of the questions have the same halves.
- Unit: scores are centred for each question and divided by their root mean square over the fitting half; b is between 0
  and STEEPEST of such units.
- Fit: the cross-entropy of softmax(b·s), convex in b, with one more question added that has every choice for its
  answer alike. Without it a half that is answered without an error would be believed without a doubt; where all
  questions have two choices equally far apart, it gives the estimate of Krichevsky and Trofimov,
  (right + ½) / (questions + 1).
- Fewer than FEWEST questions in a half, or a half in which all scores are equal, tell no temperature: the other half is
  judged as guessing, b = 0.

Source: Guo et al., On Calibration of Modern Neural Networks, 2017, §4.2 (temperature scaling); Chernozhukov et al.,
Double/debiased machine learning, 2018 (cross-fitting); Krichevsky and Trofimov, 1981; the composition is ours.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cao.files import sha256_bytes
from cao.types import Item

STEEPEST = 64.0
"""The largest inverse temperature, over the root mean square of the centred scores of the fitting half."""

FEWEST = 4
"""Questions of a half from which a temperature is fitted."""

_STEPS, _CLOSE = 100, 1e-13

Array = NDArray[np.float64]
Slope = Callable[[float], tuple[float, float]]


def losses(items: Sequence[Item]) -> Array:
    """Return the loss of each question at the model's own temperature, cross-fitted, (n,) float64 in nats.

    A question with one choice costs nothing, one whose choices all have the same score ln k. Where texts were written
    (the protocol ``generate``) there are no scores, and the item's loss is kept: a likelihood per character of one
    answer has no temperature to be fitted.

    Args:
        items: n answered questions of one model.

    Source: see the module.
    """
    return _judged(items, first_half(items), crossed=True)


def lowest_losses(items: Sequence[Item], first: NDArray[np.bool_]) -> Array:
    """Return the losses at the temperatures that suit each half best, fitted on the very questions judged, (n,).

    Whatever temperatures more questions will show, the mean of these n losses at them is not lower.

    Args:
        items: n answered questions of one model.
        first: (n,) which of them are in the first half.
    """
    return _judged(items, first, crossed=False)


def first_half(items: Sequence[Item]) -> NDArray[np.bool_]:
    """Return which questions are in the first half, (n,): every other open one in the order of the ids' hashes."""
    several = [i for i, item in enumerate(items) if len(item.scores) > 1]
    order = sorted(several, key=lambda i: (sha256_bytes(items[i].id.encode()), i))
    first = np.zeros(len(items), dtype=bool)
    first[order[::2]] = True
    return first


def _judged(items: Sequence[Item], first: NDArray[np.bool_], *, crossed: bool) -> Array:
    """Return each question's loss at the temperature of the other half, or of its own with nothing added."""
    found = np.array([0.0 if item.scores else item.loss for item in items], dtype=np.float64)
    several = np.array([i for i, item in enumerate(items) if len(item.scores) > 1], dtype=np.intp)
    if not len(several):
        return found
    scores, there = _centred([items[i].scores for i in several])
    gold = np.array([items[i].gold for i in several], dtype=np.intp)
    for fit in (first[several], ~first[several]):
        judged = ~fit if crossed else fit
        b = _sharpness(scores[fit], there[fit], gold[fit], smoothed=crossed)
        found[several[judged]] = _losses_at(b, scores[judged], there[judged], gold[judged])
    return found


def _centred(scores: Sequence[Sequence[float]]) -> tuple[Array, NDArray[np.bool_]]:
    """Return (n, k) scores without their question's mean, 0 where there is no choice, and where there is one.

    The largest score is taken off first: equal scores are then 0 exactly.
    """
    counts = np.array([len(own) for own in scores])
    there = np.arange(counts.max()) < counts[:, None]
    padded = np.zeros(there.shape)
    padded[there] = np.concatenate([np.asarray(own, dtype=np.float64) for own in scores])
    top = np.where(there, padded, -np.inf).max(1, keepdims=True)
    below = np.where(there, padded - top, 0.0)
    return np.where(there, below - below.sum(1, keepdims=True) / counts[:, None], 0.0), there


def _sharpness(scores: Array, there: NDArray[np.bool_], gold: NDArray[np.intp], *, smoothed: bool) -> float:
    """Return the inverse temperature that fits a half of the questions, per nat of their scores.

    Args:
        scores: (n, k) centred scores.
        there: (n, k) where there is a choice.
        gold: (n,) index of the right choice.
        smoothed: whether the question that has every choice for its answer is added, and FEWEST asked for.
    """
    if len(scores) < (FEWEST if smoothed else 1):
        return 0.0
    largest = float(np.abs(scores).max())  # first, so that no square leaves the numbers
    if largest == 0:
        return 0.0
    unit = float(np.sqrt((np.square(scores / largest).sum(1) / there.sum(1)).mean()))
    x = scores / largest / unit
    right, weight = x[np.arange(len(x)), gold].mean(), 1 + smoothed / len(x)

    def slope(b: float) -> tuple[float, float]:
        """Return the first and second derivative of the mean cross-entropy."""
        p = _probabilities(b * x, there)
        mean = (p * x).sum(1)
        curve = (p * np.square(x - mean[:, None])).sum(1).mean()
        return float(weight * mean.mean() - right), float(weight * curve)

    return _root(slope) / largest / unit


def _root(slope: Slope) -> float:
    """Return where a growing slope is zero, between 0 and STEEPEST: Newton's steps, halving where one leaves."""
    low, high, b = 0.0, STEEPEST, 1.0
    if slope(low)[0] >= 0:
        return low
    if slope(high)[0] <= 0:
        return high
    for _ in range(_STEPS):
        value, curve = slope(b)
        low, high = (b, high) if value < 0 else (low, b)
        step = b - value / curve if curve > 0 else low
        new = step if low < step < high else (low + high) / 2
        if abs(new - b) <= _CLOSE * max(1.0, b):
            return new
        b = new
    return b


def _losses_at(sharpness: float, scores: Array, there: NDArray[np.bool_], gold: NDArray[np.intp]) -> Array:
    """Return −log softmax(sharpness · scores) of the right choices, (n,)."""
    logits = np.where(there, sharpness * scores, -np.inf)
    top = logits.max(1)
    every = np.log(np.exp(logits - top[:, None]).sum(1))
    return np.asarray(every - (logits[np.arange(len(logits)), gold] - top), dtype=np.float64)


def _probabilities(logits: Array, there: NDArray[np.bool_]) -> Array:
    """Return the softmax over the choices that there are, (n, k)."""
    weights = np.exp(logits - np.where(there, logits, -np.inf).max(1, keepdims=True)) * there
    return np.asarray(weights / weights.sum(1, keepdims=True), dtype=np.float64)
