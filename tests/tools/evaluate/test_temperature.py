"""The loss at a model's own temperature: by hand, and what cannot change it."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cao.files import sha256_bytes
from cao.types import AcceptRule, Item
from tests.tools.evaluate.answered import item, scaled
from tools.evaluate.racing import hopeless
from tools.evaluate.statistics import compare, differences, summarise
from tools.evaluate.temperature import FEWEST, losses

SCORE = st.floats(-8, 0).map(lambda score: round(score, 6))
QUESTION = st.integers(1, 5).flatmap(lambda k: st.tuples(st.tuples(*[SCORE] * k), st.integers(0, k - 1)))
ANSWERS = st.lists(QUESTION, min_size=2, max_size=40).map(
    lambda given: [item(f"q{i}", *q) for i, q in enumerate(given)]
)


def halves(names: list[str]) -> tuple[list[str], list[str]]:
    """Return the ids of the first and of the second half."""
    order = sorted(names, key=lambda name: sha256_bytes(name.encode()))
    return order[::2], order[1::2]


def model(seed: int, n: int, better: float = 0.0) -> list[Item]:
    """Return answers whose right choice is ``1 + better`` standard deviations up on average."""
    rng = np.random.default_rng(seed)
    scores, gold = rng.normal(-2, 0.3, size=(n, 4)), rng.integers(4, size=n)
    scores[np.arange(n), gold] += 0.3 * (1 + better)
    return [item(f"q{i}", scores[i].tolist(), int(gold[i])) for i in range(n)]


def test_two_choices_equally_far_apart_have_the_estimate_of_krichevsky_and_trofimov() -> None:
    """12 questions a half, 9 right in one and 7 in the other; gaps of .3, whatever the scores' height."""
    names = [f"q{i}" for i in range(24)]
    first, second = halves(names)
    wrong = {*first[:3], *second[:5]}
    items = [item(name, (-1.0, -1.3), int(name in wrong)) for name in names]
    by_name = dict(zip(names, losses(items), strict=True))
    for half, right in ((first, 7), (second, 9)):  # judged with what the other half says
        p = (right + 0.5) / 13
        for name in half:
            assert by_name[name] == pytest.approx(-math.log(1 - p if name in wrong else p), abs=1e-10)


def test_a_half_that_is_wrong_more_often_than_right_is_judged_as_guessing() -> None:
    items = [item(f"q{i}", (-1.0, -1.3, -1.3), 1) for i in range(24)]
    assert losses(items) == pytest.approx(math.log(3))
    assert summarise(items).at_chance


def test_the_fit_is_the_minimum_of_the_smoothed_cross_entropy() -> None:
    """Against a fine grid: no other inverse temperature fits the first half better."""
    items = model(0, 60)
    first, second = (set(half) for half in halves([one.id for one in items]))
    fit = [one for one in items if one.id in first]

    def cost(b: float) -> float:
        logs = [[b * s - math.log(sum(math.exp(b * t) for t in one.scores)) for s in one.scores] for one in fit]
        plain = -sum(own[one.gold] for own, one in zip(logs, fit, strict=True))
        return plain - sum(sum(own) / len(own) for own in logs) / len(fit)

    best = min(np.linspace(0, 10, 1_001), key=cost)
    found = dict(zip([one.id for one in items], losses(items), strict=True))
    judged = [one for one in items if one.id in second]
    for one in judged:
        expected = math.log(sum(math.exp(best * (s - one.scores[one.gold])) for s in one.scores))
        assert found[one.id] == pytest.approx(expected, abs=2e-2)


def test_what_has_no_temperature() -> None:
    written = [Item(id=f"w{i}", correct=True, loss=0.1 * i) for i in range(10)]
    assert losses(written).tolist() == [one.loss for one in written]
    assert losses([item(f"o{i}", (-3.0,), 0) for i in range(10)]).tolist() == [0.0] * 10
    assert losses([item(f"e{i}", (-3.0, -3.0, -3.0), 1) for i in range(10)]) == pytest.approx(math.log(3))
    assert losses([]).shape == (0,)


@pytest.mark.parametrize(("n", "guessed"), [(2 * FEWEST - 2, True), (2 * FEWEST, False)])
def test_few_questions_tell_no_temperature(n: int, guessed: bool) -> None:
    items = [item(f"q{i}", (-1.0, -2.0), 0) for i in range(n)]
    assert (losses(items) == pytest.approx(math.log(2))) == guessed
    assert math.isclose(summarise(items).loss, math.log(2)) == guessed


def test_no_errors_are_not_believed_without_a_doubt() -> None:
    """Twelve of twelve right in each half: (12 + ½) / 13, not certainty."""
    items = [item(f"q{i}", (-1.0, -2.0), 0) for i in range(24)]
    assert losses(items) == pytest.approx(-math.log(12.5 / 13))


@given(ANSWERS, st.floats(1e-4, 1e4))
def test_no_constant_changes_a_loss(items: list[Item], by: float) -> None:
    assert np.abs(losses(scaled(items, by)) - losses(items)).max() <= 1e-9


@given(ANSWERS, st.randoms(use_true_random=False))
def test_the_order_of_the_questions_does_not_matter(items: list[Item], rng: random.Random) -> None:
    mixed = rng.sample(items, len(items))
    found = dict(zip([one.id for one in mixed], losses(mixed), strict=True))
    assert [found[one.id] for one in items] == pytest.approx(losses(items).tolist(), abs=1e-9)


@given(
    st.integers(0, 10**6),
    st.floats(-0.5, 2.0),
    st.floats(1e-4, 1e4),
    st.floats(1e-4, 1e4),
    st.sampled_from(["either", "confident", "any"]),
)
def test_no_constant_changes_a_verdict_or_a_drop(
    seed: int, better: float, best_by: float, by: float, rule: AcceptRule
) -> None:
    best, candidate = model(seed, 48), model(seed + 1, 48, better)
    other, changed = scaled(best, best_by), scaled(candidate, by)
    before, after = compare(best, candidate, rule), compare(other, changed, rule)
    assert after.accepted == before.accepted
    assert after.loss_change == pytest.approx(before.loss_change, abs=1e-9)
    assert hopeless(other, changed[:24], rule, 0.05) == hopeless(best, candidate[:24], rule, 0.05)


@given(st.integers(0, 10**6), st.floats(1e-4, 1e4))
def test_a_model_is_no_better_than_itself_at_any_scale(seed: int, by: float) -> None:
    """Also where a verdict hangs on rounding: differences too small to be any are none."""
    best = model(seed, 48)
    assert not differences(best, scaled(best, by)).any()
    assert not compare(best, scaled(best, by), "either").accepted


def test_a_power_of_the_likelihoods_that_fits_better_is_not_better() -> None:
    """The scores of a model at chance: flatter ones have a lower raw loss, and it buys nothing."""
    rng = np.random.default_rng(5)
    best = [item(f"q{i}", rng.normal(-1.5, 0.5, size=4).tolist(), int(rng.integers(4))) for i in range(96)]
    flatter = scaled(best, 0.8)
    raw, new = summarise(best), summarise(flatter)
    assert raw.raw_loss is not None
    assert new.raw_loss is not None
    assert new.raw_loss < raw.raw_loss - 0.01
    assert new.loss == pytest.approx(raw.loss, abs=1e-9)
    assert (raw.chance, raw.uniform_loss, raw.at_chance) == (0.25, pytest.approx(math.log(4)), True)


def test_who_answers_questions_of_one_choice_is_not_said_to_guess() -> None:
    assert not summarise([item(f"q{i}", [-1.0], 0) for i in range(16)]).at_chance


@pytest.mark.parametrize(("right", "at_chance"), [(0, True), (3, True), (24, True), (60, False)])
def test_written_answers_are_at_chance_where_they_are_no_better_than_lots_among_the_choices_shown(
    right: int, *, at_chance: bool
) -> None:
    """Of 96 texts, among four choices each; a model whose texts name no choice is below chance, and no better."""
    texts = [Item(id=f"q{i}", correct=i < right, loss=1.0, gold=0, guessing=0.25) for i in range(96)]
    reward = summarise(texts)
    assert (reward.chance, reward.uniform_loss, reward.at_chance) == (0.25, 0.0, at_chance)
    free = summarise([one.model_copy(update={"guessing": 0.0}) for one in texts])
    assert (free.chance, free.at_chance) == (0.0, False)


def test_a_model_that_knows_something_is_not_at_chance() -> None:
    reward = summarise(model(1, 96, 1.0))
    assert reward.ci95[0] > reward.chance
    assert reward.loss < reward.uniform_loss
    assert not reward.at_chance
