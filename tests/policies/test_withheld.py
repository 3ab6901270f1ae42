"""A value that cannot act now is offered to no policy: neither its prompt, nor its grammar, nor its draws have it."""

import json
from dataclasses import replace

import pytest

from cao.files import canonical_json
from cao.model.language_model import LanguageModel
from cao.policy_settings import PolicySettings
from cao.strategies import FAMILIES, Standing
from cao.strategies.calibrate import Calibrate
from cao.strategy import parse_strategy, strategy_schema
from cao.types import AdaptedModel
from policies.bandit import BanditPolicy
from policies.base import FamilyName, PolicyContext
from policies.grid import grid
from policies.local import LocalPolicy
from policies.messages import policy_messages
from policies.selection.portfolio import PortfolioPolicy
from policies.selection.surrogate import SurrogatePolicy, fit
from policies.uniform import RandomPolicy

PLAIN = Standing(AdaptedModel(), "tiny", generator=True)
LABELS = Standing(AdaptedModel(), "tiny", generator=True, priors=("none", "choice", "batch"), pool=("a",))


def context(standing: Standing, *families: FamilyName) -> PolicyContext:
    """What a policy sees where these families can act."""
    withheld = {name: found for name in families if (found := FAMILIES[name].withheld(standing))}
    return PolicyContext(families=families, withheld=withheld)


def test_what_is_withheld_is_what_would_be_refused_and_nothing_else_of_its_key() -> None:
    assert Calibrate.withheld(PLAIN) == {"prior": ("batch",)}
    assert Calibrate.withheld(replace(PLAIN, priors=("none",))) == {"prior": ("choice", "batch")}
    assert FAMILIES["TTS"].withheld(PLAIN) == {"members": ("pool",)}
    assert not any(family.withheld(LABELS) for family in FAMILIES.values())
    for name, family in FAMILIES.items():
        for key, values in family.withheld(PLAIN).items():
            points = [point for point in grid((name,)) if point.canonical().get(key) in values]
            assert points
            assert all(point.refusal(PLAIN) and not point.refusal(LABELS) for point in points)
            assert family.model_fields[key].default not in values  # a key at its default is not written


def test_schema_and_prompt_leave_it_out_and_say_what_is_left() -> None:
    offered = json.dumps(strategy_schema(["Calibrate"], withheld={"Calibrate": {"prior": ("batch",)}}))
    assert '"enum": ["none", "choice"]' in offered
    assert '"batch"' in json.dumps(strategy_schema(["Calibrate"]))  # and no other schema has lost it
    system, user = (each["content"] for each in policy_messages(context(PLAIN, "Calibrate", "TTS")))
    assert '"prior": one of "none", "choice"\n' in system
    assert '"members": one of "batches", "both"\n' in system
    assert '"prior":none or choice' in user
    assert '"prior": one of "none", "choice", "batch"\n' in policy_messages(context(LABELS, "Calibrate"))[0]["content"]


def test_no_policy_proposes_it(tiny_lm: LanguageModel) -> None:
    seen, left = context(PLAIN, "Calibrate"), context(LABELS, "Calibrate")
    points = [point.canonical() for point in grid(("Calibrate",))]
    batch = [point for point in points if point["prior"] == "batch"]
    ordered = [*batch, *(point for point in points if point not in batch)]
    gains = {canonical_json(point): 1.0 if point in batch else 0.5 for point in points}
    for policy in (
        RandomPolicy(),
        BanditPolicy({}),
        PortfolioPolicy(ordered),
        LocalPolicy(tiny_lm, PolicySettings()),
        SurrogatePolicy(fit([{"drift": 0.0}], [gains], points)),
    ):
        drawn = [parse_strategy(text).canonical() for text in policy.propose(seen, 40, seed=1)]
        assert {str(each["prior"]) for each in drawn} <= {"none", "choice"}, policy.name
        assert any(parse_strategy(t).canonical()["prior"] == "batch" for t in policy.propose(left, 40, seed=1)), policy


def test_where_nothing_that_is_known_can_act_it_is_proposed_all_the_same() -> None:
    batch = [point.canonical() for point in grid(("Calibrate",)) if point.canonical()["prior"] == "batch"]
    assert PortfolioPolicy(batch).propose(context(PLAIN, "Calibrate"), 1, seed=0)


@pytest.mark.parametrize("constrained", [True, False])
def test_equal_families_with_other_values_have_grammars_of_their_own(tiny_lm: LanguageModel, constrained: bool) -> None:
    policy = LocalPolicy(tiny_lm, PolicySettings(constrained=constrained))
    for standing in (LABELS, PLAIN, LABELS):
        assert policy.propose(context(standing, "Calibrate"), 1, seed=0)
