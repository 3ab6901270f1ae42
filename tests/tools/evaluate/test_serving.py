"""What a model costs to serve, by hand arithmetic, and that a gain below its price is not accepted."""

import math
import random

import pytest

from cao.strategies.base import Pace
from cao.strategies.calibrate import Calibrate
from cao.types import AdaptedModel, AdapterRef, AnswerRule, LatentSettings, PriorKind
from tests.tools.evaluate.answered import item
from tools.evaluate.serving import passes, serving_price
from tools.evaluate.statistics import compare, differences

ONE = AdapterRef(path="p", sha256="x", base_sha256="b", rank=4)
PLAIN, CARRIED = AdaptedModel(), AdaptedModel(members=(ONE,))
FOUR = AdaptedModel(members=(ONE,) * 4, method="sum_logprobs")
ROUTED = AdaptedModel(members=(ONE,) * 4, method="avg_prompt_embed", centroids="c")
VECTORS = AdaptedModel(latent=LatentSettings(slot_steps=10, slot_lr=0.1))
RULE = AdaptedModel(answer_rule=AnswerRule(prior="choice", strength=1.0, length="none"))
LENGTH = AdaptedModel(answer_rule=AnswerRule(length="token"))
FOUR_RULED = FOUR.model_copy(update={"answer_rule": RULE.answer_rule})


@pytest.mark.parametrize(
    ("model", "cost"),
    [(PLAIN, 1), (CARRIED, 1), (RULE, 1.84), (LENGTH, 1), (FOUR, 4), (ROUTED, 1.2), (VECTORS, 2), (FOUR_RULED, 7.36)],
)
def test_a_question_costs_a_pass_for_each_adapter_that_answers_it(model: AdaptedModel, cost: float) -> None:
    assert passes(model) == pytest.approx(cost)
    members = 1 if model in (RULE, LENGTH) else 4 if model == FOUR_RULED else cost
    assert passes(model, same_choices=True) == pytest.approx(members)  # their priors are read once


@pytest.mark.parametrize(
    ("candidate", "best", "price"),
    [
        (CARRIED, PLAIN, 0.0),
        (LENGTH, CARRIED, 0.01 * 1),  # the folder alone answers by the default rule
        (LENGTH, VECTORS, 0.0),
        (RULE, CARRIED, 0.01 * (math.log2(1.84) + 1)),
        (FOUR, PLAIN, 0.01 * (2 + 1)),  # two doublings, and no folder to hand over
        (ROUTED, CARRIED, 0.01 * (math.log2(1.2) + 1)),
        (VECTORS, CARRIED, 0.01 * (1 + 1)),
        (FOUR, VECTORS, 0.01 * 1),  # there was no folder before
        (VECTORS, FOUR, 0.0),  # cheaper
        (FOUR.model_copy(update={"latent": VECTORS.latent}), FOUR, 0.01 * 1),
    ],
)
def test_the_price_is_a_rate_for_each_doubling_and_for_the_folder(
    candidate: AdaptedModel, best: AdaptedModel, price: float
) -> None:
    assert serving_price(candidate, best, 0.01) == pytest.approx(price)
    assert serving_price(candidate, best, 0.0) == 0.0


@pytest.mark.parametrize("prior", ["none", "choice", "batch"])
def test_a_rule_takes_the_time_that_it_is_charged_for(prior: PriorKind) -> None:
    strategy = Calibrate(family="Calibrate", prior=prior, strength=1.0 * (prior != "none"), length="none")
    pace = Pace(prompts=32, tokens=100.0, read=1e-4, scored=1e-4, each=0.1)
    assert strategy.price(pace).times == pytest.approx(passes(AdaptedModel(answer_rule=strategy.rule)))


def test_what_is_trained_anew_for_each_set_of_questions_pays_for_the_folder_that_it_takes_away() -> None:
    assert serving_price(CARRIED, PLAIN, 0.01, transductive=True) == pytest.approx(0.01)
    assert serving_price(FOUR, PLAIN, 0.01, transductive=True) == serving_price(FOUR, PLAIN, 0.01)
    assert serving_price(CARRIED, FOUR, 0.01, transductive=True) == 0.0


def test_what_has_no_folder_to_lose_pays_for_none() -> None:
    for again in (True, False):
        assert serving_price(CARRIED, CARRIED, 0.01, transductive=again, best_transductive=True) == 0.0
    assert serving_price(FOUR, CARRIED, 0.01, best_transductive=True) == pytest.approx(0.01 * 2)


def test_four_adapters_that_gain_less_than_their_price_are_not_accepted() -> None:
    rng = random.Random(0)
    noise = [rng.gauss(1.0, 1.0) for _ in range(96)]
    best = [item(f"q{n}", [by, 0.0], 0) for n, by in enumerate(noise)]
    better = [item(f"q{n}", [by + 0.2, 0.0], 0) for n, by in enumerate(noise)]  # surely a little better
    gain = -float(differences(best, better).mean())
    free = compare(best, better, "confident")
    assert free.accepted
    assert gain == pytest.approx(-free.loss_change)
    for per_doubling, accepted in ((gain / 30, True), (gain / 3 * 1.01, False)):
        price = serving_price(FOUR, PLAIN, per_doubling)
        verdict = compare(best, better, "confident", price=price)
        assert (verdict.accepted, verdict.price) == (accepted, price)
        assert verdict.loss_change == free.loss_change
