"""Answers with scores, as a model that knows something of the questions would give them."""

from collections.abc import Sequence

import numpy as np

from cao.types import Item


def item(name: str, scores: Sequence[float], gold: int) -> Item:
    """Return the item of one question; its raw loss follows from the scores."""
    values = np.asarray(scores, dtype=np.float64)
    choice, top = int(values.argmax()), values.max()
    loss = float(np.log(np.exp(values - top).sum()) + top - values[gold])
    return Item(id=name, scores=tuple(scores), choice=choice, gold=gold, correct=choice == gold, loss=loss)


def scaled(items: Sequence[Item], by: Sequence[float] | float) -> list[Item]:
    """Return the items with their scores multiplied, each question's by its own factor or all by one."""
    factors = [by] * len(items) if isinstance(by, float) else by
    return [
        item(old.id, [factor * score for score in old.scores], old.gold)
        for old, factor in zip(items, factors, strict=True)
    ]
