"""Where answers are written no temperature takes a scale out of the loss, so the loss buys nothing there."""

import random

import pytest

from cao.types import AcceptRule, Item
from tools.evaluate.racing import hopeless
from tools.evaluate.statistics import compare

N = 96


def written(marks: str, scale: float = 1.0, seed: int = 0) -> list[Item]:
    """Written answers, right where a mark is 1, with losses a character that a scale multiplies."""
    rng = random.Random(seed)
    return [
        Item(id=f"q{i}", correct=mark == "1", loss=scale * rng.uniform(1.0, 3.0), text="an answer")
        for i, mark in enumerate(marks)
    ]


SOME = "1" * 30 + "0" * (N - 30)


@pytest.mark.parametrize("rule", ["either", "confident", "any"])
@pytest.mark.parametrize("scale", [0.5, 0.97, 1.03])
def test_a_scale_that_changes_no_text_is_never_accepted(rule: AcceptRule, scale: float) -> None:
    verdict = compare(written(SOME), written(SOME, scale), rule)
    assert (verdict.accuracy_change, verdict.accepted) == (0.0, False)
    assert (verdict.loss_p_value < 1e-6) == (scale < 1)  # the loss alone would be sure of it


@pytest.mark.parametrize("rule", ["either", "confident"])
@pytest.mark.parametrize(("gained", "accepted"), [(4, False), (16, True)])
def test_a_sure_gain_of_the_accuracy_is_accepted_whatever_the_loss_does(
    rule: AcceptRule, gained: int, accepted: bool
) -> None:
    better = "1" * (30 + gained) + "0" * (N - 30 - gained)
    for scale in (0.5, 2.0):
        assert compare(written(SOME), written(better, scale), rule).accepted == accepted


def test_the_whole_level_is_the_accuracys_where_it_alone_is_tested() -> None:
    better = "1" * 38 + "0" * (N - 38)  # McNemar's exact one-sided p of 8 to 0 is .004
    for level, accepted in ((0.005, True), (0.003, False)):
        assert compare(written(SOME), written(better), "either", level=level).accepted == accepted


@pytest.mark.parametrize("rule", ["either", "confident"])
def test_a_race_drops_by_the_accuracy_alone(rule: AcceptRule) -> None:
    best = written("10" * (N // 2))
    same, level = written("10" * 24, 0.5), {"level": 0.025}
    assert hopeless(best, same, rule, 0.05, **level) == "the accuracy will hardly become high enough"
    ahead = written("1" * 48, 2.0)
    assert hopeless(best, ahead, rule, 0.05, **level) == ""


@pytest.mark.parametrize("rule", ["either", "confident"])
def test_what_a_race_lets_through_and_all_questions_accept_agree(rule: AcceptRule) -> None:
    """Of candidates that all questions would accept, a look drops no more than its error."""
    rng, dropped, would = random.Random(1), 0, 0
    best = written("10" * (N // 2))
    for seed in range(300):
        marks = "".join("1" if mark == "1" or rng.random() < 0.25 else "0" for mark in "10" * (N // 2))
        candidate = written(marks, 1.0, seed)
        if not compare(best, candidate, rule, level=0.025).accepted:
            continue
        would += 1
        order = rng.sample(range(N), N)
        asked, shown = [best[i] for i in order], [candidate[i] for i in order[:24]]
        dropped += bool(hopeless(asked, shown, rule, 0.05, level=0.025))
    assert would > 50
    assert dropped <= 0.05 * would + 3 * (0.05 * 0.95 * would) ** 0.5
