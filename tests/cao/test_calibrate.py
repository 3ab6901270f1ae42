"""Calibrate's settings: equal rules have one text, and it says what it cannot act on."""

from typing import Any

import pytest

from cao.strategies import Standing
from cao.strategies.calibrate import Calibrate
from cao.strategy import StrategyRejectedError, parse_strategy
from cao.types import AdaptedModel, AnswerRule

PMI = Calibrate(family="Calibrate", prior="choice", strength=1.0, length="none")


@pytest.mark.parametrize(
    "text",
    [
        '{"family": "Calibrate", "prior": "none", "strength": 0.7, "length": "token"}',
        '{"family": "Calibrate", "prior": "batch", "strength": 0, "length": "token"}',
        '{"family": "Calibrate", "prior": "choice", "strength": 0.0, "length": "token"}',
    ],
)
def test_a_rule_that_takes_nothing_off_has_one_text(text):
    assert parse_strategy(text).canonical() == {
        "family": "Calibrate",
        "prior": "none",
        "strength": 0.0,
        "length": "token",
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [("strength", "1.01"), ("strength", "-0.1"), ("strength", "true"), ("prior", '"gold"'), ("length", "1")],
)
def test_values_out_of_bounds_are_refused(key, value):
    settings = {"prior": '"choice"', "strength": "1", "length": '"none"'} | {key: value}
    text = ", ".join(f'"{name}": {given}' for name, given in settings.items())
    with pytest.raises(StrategyRejectedError, match=f"Calibrate: {key}"):
        parse_strategy(f'{{"family": "Calibrate", {text}}}')


def test_without_a_prior_the_strength_must_be_within_its_bounds_all_the_same():
    with pytest.raises(StrategyRejectedError, match="strength"):
        parse_strategy('{"family": "Calibrate", "prior": "none", "strength": 2, "length": "token"}')


def test_what_it_cannot_act_on_is_said():
    def standing(rule: AnswerRule | None = None, **relied_on: Any) -> Standing:
        return Standing(AdaptedModel(answer_rule=rule or AnswerRule()), "tiny", generator=False, **relied_on)

    batch = Calibrate(family="Calibrate", prior="batch", strength=1.0, length="char")
    assert PMI.refusal(standing()) is None
    assert "in use already" in str(PMI.refusal(standing(PMI.rule)))
    assert "same words" in str(batch.refusal(standing(priors=("none", "choice"))))
    assert batch.refusal(standing(priors=("none", "choice", "batch"))) is None
    assert "what follows them is" in str(PMI.refusal(standing(priors=("none",))))
    assert "the prior choice needs" in str(PMI.refusal(standing(priors=("none",))))
    assert "no choices" in str(PMI.refusal(standing(ranks=False)))


def test_the_grid_has_each_rule_once():
    rules = [point.rule for point in Calibrate.grid()]
    assert len(set(rules)) == len(rules) == 27


@pytest.mark.parametrize(("prior", "strength"), [("none", "true"), ("none", "false"), ("choice", "false")])
def test_truth_is_no_strength(prior, strength):
    with pytest.raises(StrategyRejectedError, match="Calibrate: strength"):
        parse_strategy(f'{{"family": "Calibrate", "prior": "{prior}", "strength": {strength}, "length": "token"}}')
