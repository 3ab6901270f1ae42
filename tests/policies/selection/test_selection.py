"""The policies that compute, by hand arithmetic: the greedy portfolio and the ridge regression."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cao.errors import InputError, UnavailableError
from cao.files import canonical_json
from cao.model.language_model import LanguageModel
from cao.policy_settings import PolicySettings
from cao.strategies.calibrate import LENGTHS
from cao.types import StrategyFields, Trial
from policies.base import PolicyContext, adapter_of, spent_on
from policies.registry import build_policy
from policies.selection.learnt import read_selection
from policies.selection.portfolio import PortfolioPolicy, greedy_order
from policies.selection.ranked import RankedPolicy
from policies.selection.surrogate import SurrogatePolicy, fit, shrunken_means
from policies.uniform import RandomPolicy

LATENT: StrategyFields = {"family": "Latent", "slot_steps": 5, "slot_lr": 0.1}
SHORT: StrategyFields = {"family": "Latent", "slot_steps": 1, "slot_lr": 0.1}
MIX: StrategyFields = {"family": "LORA", "lambda": 0.5}
A, B, C = canonical_json(LATENT), canonical_json(SHORT), canonical_json(MIX)


def test_the_portfolio_begins_with_what_gains_most_and_goes_on_with_what_that_lacks() -> None:
    situations = [{"a": 3.0, "b": 2.0}, {"a": 3.0, "b": 2.0}, {"b": 1.0, "c": 2.5}]
    # alone: a 6, b 5, c 2.5; behind a, where it is not accepted: b 1 and c 2.5; behind both nothing is left
    assert greedy_order(situations) == ["a", "c"]
    assert greedy_order([{"a": 0.0, "b": -1.0}]) == []
    assert greedy_order([{"b": 1.0, "a": 1.0}]) == ["a"]  # of equal ones the first by name
    assert greedy_order([]) == []


def test_the_loop_stops_at_what_is_accepted_first() -> None:
    """a alone gains most, .5 + .1 + .1; but b stops the loop before a better one in no situation where a is not."""
    situations = [{"a": 0.5}, {"a": 0.1, "b": 0.4}, {"a": 0.1}, {"b": 0.3}]
    assert greedy_order(situations) == ["a", "b"]  # .7 each: the first by name, then b where a is not accepted
    loop = lambda order: sum(next((one[s] for s in order if one.get(s)), 0.0) for one in situations)  # noqa: E731
    assert loop(["a", "b"]) == pytest.approx(1.0)


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 20), max_size=4), min_size=1, max_size=5))
def test_each_step_of_the_portfolio_adds_no_more_than_the_one_before(situations: list[dict[str, int]]) -> None:
    order = greedy_order(situations)
    worth = [
        sum(next((one[name] for name in order[:length] if one.get(name)), 0) for one in situations)
        for length in range(len(order) + 1)
    ]
    added = [after - before for before, after in itertools.pairwise(worth)]
    assert all(more > 0 for more in added)
    assert all(later <= earlier for earlier, later in itertools.pairwise(added))


def tried(*strategies: StrategyFields) -> tuple[Trial, ...]:
    return tuple(
        Trial(attempt=n, strategy=strategy, accepted=False, reason="no") for n, strategy in enumerate(strategies, 1)
    )


def names(texts: list[str]) -> list[str]:
    return [canonical_json(json.loads(text)) for text in texts]


def test_what_a_runs_settings_added_to_a_strategy_makes_it_no_other_one() -> None:
    plain: StrategyFields = {
        "family": "TTL",
        "ttl_steps": 10,
        "learning_rate": 1e-4,
        "batch_size": 4,
        "shuffle_data": True,
    }
    context = PolicyContext(history=tried({**plain, "peft": "dora"}))
    assert names(PortfolioPolicy([plain, LATENT]).propose(context, 1, 0)) == [A]


def test_the_portfolio_is_proposed_in_order_without_what_cannot_act_or_was_tried() -> None:
    policy = PortfolioPolicy([LATENT, MIX, SHORT])
    assert names(policy.propose(PolicyContext(), 4, 0)) == [A, C, B, A]
    assert names(policy.propose(PolicyContext(history=tried(LATENT)), 2, 0)) == [C, B]
    assert names(policy.propose(PolicyContext(families=("Latent",), history=tried(LATENT)), 1, 0)) == [B]
    assert names(policy.propose(PolicyContext(families=("TTS",)), 1, 0)) == [A]  # the loop says why it cannot act


FEATURES = [{"x": 1.0, "same": 5.0}, {"x": 3.0, "same": 5.0}]
"""Standardised: x is −1 and 1, ``same`` is 0 and 0."""


def test_the_ridge_regression_by_hand() -> None:
    fitted = fit(FEATURES, [{A: 1.0, C: 2.0}, {A: 4.0}], [LATENT, MIX, SHORT], penalty=2.0, prior=0.0)
    assert fitted.features == ("same", "x")
    assert (fitted.centre, fitted.scale) == ((5.0, 2.0), (1.0, 1.0))
    assert [point.strategy for point in fitted.points] == [LATENT, MIX]  # nothing is known of the third
    # LATENT: mean 2.5; w = Σ z·(y − mean) / (Σ z² + 2) = (1.5 + 1.5) / (2 + 2); MIX: its one gain is its mean
    assert [point.mean for point in fitted.points] == [2.5, 2.0]
    assert fitted.points[0].weights == pytest.approx((0.0, 0.75))
    assert fitted.points[1].weights == pytest.approx((0.0, 0.0))
    assert fitted.predict({"x": 4.0}) == pytest.approx({A: 2.5 + 0.75 * 2, C: 2.0})  # the missing feature is average
    assert fitted.predict({}) == pytest.approx({A: 2.5, C: 2.0})


def test_a_gain_weighs_as_much_as_was_asked_for_it() -> None:
    fitted = fit(FEATURES, [{A: 1.0}, {A: 4.0}], [LATENT], penalty=2.0, weights=[{A: 1.0}, {A: 0.5}], prior=0.0)
    # mean (1 + .5 · 4) / 1.5 = 2; w = (1 · 1 + .5 · 2) / (1 + .5 + 2)
    assert fitted.points[0].mean == 2.0
    assert fitted.points[0].weights == pytest.approx((0.0, 2 / 3.5))


def test_a_mean_of_few_situations_is_drawn_towards_its_familys() -> None:
    gains = [{A: 1.0, B: 0.0, C: 9.0}, {A: 1.0}, {A: 1.0}]
    # Latent's own mean is 3/4; A: (3 + 2 · 3/4) / (3 + 2), B: (0 + 2 · 3/4) / (1 + 2); C is the only one of LORA
    assert shrunken_means(gains, [LATENT, SHORT, MIX], prior=2.0) == pytest.approx({A: 0.9, B: 0.5, C: 9.0})
    half = [{A: 0.5, B: 1.0, C: 1.0}, {A: 0.5}, {A: 0.5}]  # A weighs 1.5 of 2.5: the family's mean is .6
    assert shrunken_means(gains, [LATENT, SHORT], half, prior=2.0) == pytest.approx({A: 2.7 / 3.5, B: 0.4})
    fitted = fit([{"x": 0.0}] * 3, gains, [LATENT, SHORT, MIX], prior=2.0)
    assert [point.mean for point in fitted.points] == pytest.approx([0.9, 0.5, 9.0])


def test_what_is_no_point_is_worth_what_the_nearest_is_and_a_new_family_nothing() -> None:
    fitted = fit(FEATURES, [{A: 1.0, B: 3.0}, {A: 1.0, B: 5.0}], [LATENT, SHORT], prior=0.0)
    predicted = fitted.predict({})
    assert fitted.worth(LATENT, predicted) == 1.0
    assert fitted.worth({**LATENT, "slot_steps": 4}, predicted) == 1.0  # 5 is nearer than 1, by the ratio
    assert fitted.worth({**LATENT, "slot_steps": 2}, predicted) == 4.0
    assert fitted.worth({**LATENT, "slot_steps": 9}, predicted) == 1.0  # beyond the grid: the family's worst
    assert fitted.worth({**LATENT, "slot_lr": 3.0}, predicted) == 1.0
    assert fitted.worth(MIX, predicted) == 0.0


def test_words_are_compared_as_words_and_a_strength_of_nothing_by_difference() -> None:
    none, half = ({**CALIBRATE, "strength": strength} for strength in (0.0, 0.5))
    other = {**CALIBRATE, "prior": "batch"}
    gains = {canonical_json(none): 1.0, canonical_json(half): 2.0, canonical_json(other): -3.0}
    fitted = fit(FEATURES, [gains, gains], [none, half, other], prior=0.0)
    predicted = fitted.predict({})
    assert fitted.worth({**CALIBRATE, "strength": 0.1}, predicted) == 1.0
    assert fitted.worth({**CALIBRATE, "strength": 0.4}, predicted) == 2.0
    assert fitted.worth({**CALIBRATE, "prior": "none", "strength": 0.4}, predicted) == -3.0  # no such words


def test_the_surrogate_proposes_what_is_predicted_to_gain_most_here() -> None:
    gains = [{A: 2.0, C: 0.0, B: 1.0}, {A: 0.0, C: 2.0, B: 0.9}]
    policy = SurrogatePolicy(fit(FEATURES, gains, [LATENT, MIX, SHORT], penalty=0.1))
    low, high = PolicyContext(features={"x": 1.0}), PolicyContext(features={"x": 3.0})
    assert names(policy.propose(low, 3, 0)) == [A, B, C]
    assert names(policy.propose(high, 3, 0)) == [C, B, A]
    assert names(policy.propose(high.model_copy(update={"history": tried(MIX)}), 1, 0)) == [B]
    assert names(policy.propose(high.model_copy(update={"families": ("Latent",)}), 1, 0)) == [B]


class Says:
    """Proposes given texts, whatever is asked."""

    name = "says"

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def propose(self, context: PolicyContext, n: int, seed: int) -> list[str]:
        return [self.texts[i % len(self.texts)] for i in range(n)]


def test_of_several_draws_the_one_that_the_surrogate_finds_best_is_proposed() -> None:
    features = [{"drift": 0.0}, {"drift": 1.0}]
    surrogate = fit(features, [{A: 0.1, C: 0.3}, {A: 0.4, C: 0.2}], [LATENT, MIX], penalty=0.01)
    says = Says("no strategy", json.dumps(LATENT), json.dumps(MIX))
    ranked = RankedPolicy(says, surrogate, draws=3)
    assert names(ranked.propose(PolicyContext(features={"drift": 1.0}), 1, 0)) == [A]
    assert names(ranked.propose(PolicyContext(features={"drift": 0.0}), 1, 0)) == [C]
    assert ranked.propose(PolicyContext(), 3, 0)[-1] == "no strategy"
    assert (ranked.name, adapter_of(ranked)) == ("says", None)


def test_a_draw_that_was_tried_is_ranked_behind_what_was_not() -> None:
    surrogate = fit([{"drift": 0.0}], [{A: 0.1, C: 0.3}], [LATENT, MIX], penalty=0.01)
    ranked = RankedPolicy(Says("no strategy", json.dumps(LATENT), json.dumps(MIX)), surrogate, draws=3)
    context = PolicyContext(features={"drift": 0.0})
    assert names(ranked.propose(context, 2, 0)) == [C, A]
    assert names(ranked.propose(context.model_copy(update={"history": after((MIX, False))}), 2, 0)) == [A, C]
    assert names(ranked.propose(context.model_copy(update={"refused": (MIX,)}), 2, 0)) == [A, C]


@pytest.mark.parametrize("policy", [RandomPolicy()])
def test_a_policy_ends_where_all_that_can_be_drawn_was_tried(policy: RandomPolicy) -> None:
    lengths = [{"family": "Calibrate", "prior": "none", "strength": 0.0, "length": one} for one in LENGTHS]
    withheld = {"Calibrate": {"prior": ("choice", "batch")}}
    context = PolicyContext(
        families=("Calibrate",), withheld=withheld, history=after(*((one, False) for one in lengths))
    )
    texts = policy.propose(context, 2, 0)
    assert [json.loads(text) in lengths for text in texts] == [True, True]


def test_ranking_needs_what_was_learnt_from_practice(tmp_path: Path, tiny_lm: LanguageModel) -> None:
    settings = PolicySettings(draws=4, adapter="none")
    with pytest.raises(UnavailableError, match=r"--landscape .*--install"):
        build_policy("local", settings, lm=tiny_lm, offline=True, pretrained=str(tmp_path))


CALIBRATE: StrategyFields = {"family": "Calibrate", "prior": "choice", "strength": 0.5, "length": "none"}


def after(*attempts: tuple[StrategyFields, bool]) -> tuple[Trial, ...]:
    return tuple(
        Trial(attempt=n, strategy=strategy, accepted=accepted, reason="")
        for n, (strategy, accepted) in enumerate(attempts, 1)
    )


def test_behind_an_accepted_strategy_all_is_new_but_what_is_in_use() -> None:
    assert spent_on(after((MIX, False), (LATENT, False))) == [MIX, LATENT]
    assert spent_on(after((MIX, False), (MIX, True))) == []  # it changes the adapter that it is applied to again
    assert spent_on(after((MIX, False), (CALIBRATE, True))) == [CALIBRATE]
    assert spent_on(after((SHORT, True), (CALIBRATE, True), (LATENT, True), (MIX, False))) == [MIX, LATENT, CALIBRATE]


def test_a_learnt_policy_spends_no_attempt_on_what_is_in_use() -> None:
    context = PolicyContext(history=after((CALIBRATE, True)))
    assert names(PortfolioPolicy([CALIBRATE, LATENT]).propose(context, 1, 0)) == [A]
    fitted = fit(FEATURES, [{canonical_json(CALIBRATE): 2.0, A: 1.0}] * 2, [CALIBRATE, LATENT])
    assert names(SurrogatePolicy(fitted).propose(context, 1, 0)) == [A]


def learnt(path: Path, **changed: object) -> Path:
    surrogate = {"features": ["x"], "centre": [0.0], "scale": [1.0]}
    surrogate |= {"points": [{"strategy": LATENT, "mean": 0.1, "weights": [0.0]}]} | changed
    path.write_text(json.dumps({"base_sha256": "b", "portfolio": [{**LATENT, "slot_lr": 1}], "surrogate": surrogate}))
    return path


@pytest.mark.parametrize(
    "changed",
    [
        {"points": []},
        {"centre": []},
        {"scale": [1.0, 1.0]},
        {"points": [{"strategy": LATENT, "mean": 0.1, "weights": [0.0, 1.0]}]},
        {"points": [{"strategy": {"family": "Latent"}, "mean": 0.1, "weights": [0.0]}]},
    ],
)
def test_a_damaged_selection_is_refused_before_it_is_asked(changed: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a selection .* makes it again"):
        read_selection(learnt(tmp_path / "selection.json", **changed), "b")


def test_a_selections_strategies_have_the_form_in_which_attempts_are_compared(tmp_path: Path) -> None:
    found = read_selection(learnt(tmp_path / "selection.json"), "b")
    assert found.portfolio == ({**LATENT, "slot_lr": 1.0},)
    assert canonical_json(found.portfolio[0]) == canonical_json({**LATENT, "slot_lr": 1.0})
