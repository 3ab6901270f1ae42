"""How well strategies that are chosen without a language model do on other tasks."""

from types import SimpleNamespace
from typing import cast

import pytest

from agent.train.policy.rest_em import Judged
from agent.train.policy.selection import (
    CHOOSERS,
    Practised,
    all_apart,
    apart,
    points,
    portfolio_of,
    practised,
    selection_of,
    summary,
)
from agent.train.policy.situations import Situation
from cao.files import canonical_json
from cao.strategies.tts import TTS
from cao.types import Comparison


def situation(task: str, accepted: dict[str, float]) -> Practised:
    names = [canonical_json(point) for point in points()]
    change = {name: accepted.get(name, -1.0) for name in names}
    asked = dict.fromkeys(names, 1.0)
    return Practised(
        name=f"{task}-0", task=task, features={"questions": 1.0}, change=change, asked=asked, accepted=accepted
    )


def compared(change: float, *, accepted: bool = False) -> Comparison:
    p_values = {"loss_p_value": 0.5, "mcnemar_p_value": 1.0}
    return Comparison(accuracy_change=change, loss_change=0.0, accepted=accepted, rule="either", **p_values)


def test_only_points_of_the_grid_are_practised_and_a_dropped_one_weighs_what_it_was_asked() -> None:
    """What language models tried in the same situation would displace points that every table knows."""
    first, second, *_ = points()
    known = {
        canonical_json(first): Judged(improved=True, reason="", comparison=compared(0.1, accepted=True), questions=96),
        canonical_json(second): Judged(improved=False, reason="", comparison=compared(-0.2), questions=24),
        '{"family":"LORA","lambda":0.37}': Judged(
            improved=True, reason="", comparison=compared(0.3, accepted=True), questions=96
        ),
    }
    here = SimpleNamespace(
        name="practice-t-0",
        known=lambda: known,
        state={"features": {}},
        bench=SimpleNamespace(task=SimpleNamespace(name="t"), splits=SimpleNamespace(reward=[None] * 96)),
    )
    [found] = practised([cast(Situation, here)])
    assert found.accepted == {canonical_json(first): 0.1}
    assert found.asked == {canonical_json(first): 1.0, canonical_json(second): 0.25}
    assert portfolio_of([found]) == [canonical_json(first), canonical_json(second)]  # then what was not accepted


def test_a_strategy_that_is_accepted_at_a_loss_is_accepted() -> None:
    """By the paper's rule the accuracy decides, and the log-loss may be worse."""
    first, second, *_ = (canonical_json(point) for point in points())
    known = [situation("a", {first: -0.1}), situation("b", {second: 0.2})]
    assert apart(known, lambda others, one: [first, second]) == [(True, -0.1), (False, 0.2)]
    assert apart(known, lambda others, one: []) == [(False, 0.0)] * 2
    assert summary(known)["oracle"] == {"first": 1.0, "gain": pytest.approx(0.05)}


def test_leaving_tasks_out_needs_another_of_other_problems() -> None:
    alike = [situation("gsm8k", {}), situation("reasoning_gym_gsm_symbolic", {})]
    assert all_apart([situation("a", {}), situation("b", {})])
    assert not all_apart(alike)
    assert not all_apart([situation("a", {}), situation("a", {})])
    assert not all_apart([])
    assert all_apart([*alike, situation("piqa", {})])


def test_adapters_of_a_generator_that_saw_the_questions_are_not_rewarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever proposes them: where texts are drawn without the grammar any family may come."""
    here = Situation.__new__(Situation)
    here.leaks = True
    monkeypatch.setattr(Situation, "known", lambda *_: {})
    judged = here.judge(TTS.papers_numbers())
    assert (judged.improved, judged.reason) == (False, "the generator was trained on this task's questions")


def test_a_selection_says_what_it_was_learnt_from() -> None:
    first, *_ = (canonical_json(point) for point in points())
    found = selection_of([situation("b", {first: 0.2}), situation("a", {})], "base")
    assert found is not None
    assert found.made == {"situations": ["a-0", "b-0"], "tasks": ["a", "b"]}
    order = [canonical_json(strategy) for strategy in found.portfolio]
    assert (order[0], len(order)) == (first, len(points()))  # no attempt needs to be spent on one of them twice
    assert selection_of([situation("a", {})], "base") is None  # nothing was accepted: there is no order to learn


def test_a_portfolio_is_judged_by_what_can_act_in_a_situation() -> None:
    first, second, *_ = (canonical_json(point) for point in points())
    others = [situation("a", {first: 0.2}), situation("b", {first: 0.2, second: 0.1})]
    here = situation("c", {second: 0.3})
    without = here.model_copy(update={"change": {name: worth for name, worth in here.change.items() if name != first}})
    assert apart([*others, without], CHOOSERS["portfolio"])[-1] == (True, 0.3)
