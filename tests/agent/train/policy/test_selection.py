"""How well strategies that are chosen without a language model do on other tasks."""

import pytest

from agent.train.policy.selection import Practised, apart, points, selection_of, summary
from cao.files import canonical_json


def situation(task: str, accepted: dict[str, float]) -> Practised:
    names = [canonical_json(point) for point in points()]
    change = {name: accepted.get(name, -1.0) for name in names}
    return Practised(name=f"{task}-0", task=task, features={"questions": 1.0}, change=change, accepted=accepted)


def test_a_strategy_that_is_accepted_at_a_loss_is_accepted() -> None:
    """By the paper's rule the accuracy decides, and the log-loss may be worse."""
    first, second, *_ = (canonical_json(point) for point in points())
    known = [situation("a", {first: -0.1}), situation("b", {second: 0.2})]
    assert apart(known, lambda others, one: [first, second]) == [(True, -0.1), (False, 0.2)]
    assert apart(known, lambda others, one: []) == [(False, 0.0)] * 2
    assert summary(known)["oracle"] == {"first": 1.0, "gain": pytest.approx(0.05)}


def test_a_selection_says_what_it_was_learnt_from() -> None:
    first, *_ = (canonical_json(point) for point in points())
    found = selection_of([situation("b", {first: 0.2}), situation("a", {})], "base")
    assert found is not None
    assert found.made == {"situations": ["a-0", "b-0"], "tasks": ["a", "b"]}
    assert [canonical_json(strategy) for strategy in found.portfolio] == [first]
    assert selection_of([situation("a", {})], "base") is None  # nothing was accepted: there is no order to learn
