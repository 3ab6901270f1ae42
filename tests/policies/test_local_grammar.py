"""The local policy's grammar: strategies of a random model, each family its own, and what is done without it."""

import sys
from typing import Any

import pytest
import torch

from cao.inference.grammar import Grammar
from cao.model.language_model import LanguageModel
from cao.policy_settings import PolicySettings
from cao.strategies import FAMILIES
from cao.strategy import parse_strategy, strategy_schema
from policies.base import PolicyContext
from policies.local import RESAMPLES, LocalPolicy, on_a_grid
from tests.policies.contexts import CONTEXT


def test_the_grammar_makes_a_random_model_write_strategies(tiny_lm: LanguageModel) -> None:
    policy = LocalPolicy(tiny_lm, PolicySettings())
    texts = policy.propose(CONTEXT, 12, seed=3)
    families = [parse_strategy(text).family for text in texts]
    assert set(families) <= {"TTL", "Latent"}
    assert policy.stats["constrained"] == policy.stats["drawn"] >= 12
    assert len(set(texts)) > 6


def test_equal_seeds_give_equal_texts_and_leave_the_global_stream_alone(tiny_lm: LanguageModel) -> None:
    policy = LocalPolicy(tiny_lm, PolicySettings())
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = policy.propose(CONTEXT, 3, seed=5)
    assert torch.equal(torch.rand(3), expected)
    assert LocalPolicy(tiny_lm, PolicySettings()).propose(CONTEXT, 3, seed=5) == first
    assert policy.propose(CONTEXT, 3, seed=6) != first


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_grammar_of_each_family_gives_that_family(tiny_lm: LanguageModel, name: Any) -> None:
    policy = LocalPolicy(tiny_lm, PolicySettings(temperature=0.5))
    [text] = policy.propose(PolicyContext(families=(name,)), 1, seed=0)
    assert parse_strategy(text).family == name


def test_the_grid_ends_decimals(tiny_lm: LanguageModel) -> None:
    grammar = Grammar(tiny_lm, on_a_grid(strategy_schema(["Latent"])))

    def follows(text: str) -> bool:
        [matcher] = grammar.matchers(1)
        ids = tiny_lm.encode(text, special=False)
        return bool(matcher.try_consume_tokens(ids) == len(ids))

    assert follows('{"family":"Latent","slot_steps":5,"slot_lr":0.00123')
    assert not follows('{"family":"Latent","slot_steps":5,"slot_lr":0.0012345678')
    assert not follows('{"family":"Latent","slot_steps":500,')
    assert not follows('{"family": "TTL"')
    assert not follows(" ")


def test_free_text_of_a_random_model_comes_back_and_is_counted_as_invalid(tiny_lm: LanguageModel) -> None:
    policy = LocalPolicy(tiny_lm, PolicySettings(constrained=False, max_tokens=10))
    texts = policy.propose(CONTEXT, 2, seed=0)
    assert len(texts) == 2
    assert policy.stats["drawn"] == 2 * (1 + RESAMPLES)
    assert policy.stats["valid"] == policy.stats["constrained"] == 0


def test_without_llguidance_the_policy_draws_freely(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    monkeypatch.delitem(sys.modules, "cao.inference.grammar", raising=False)
    policy = LocalPolicy(tiny_lm, PolicySettings(max_tokens=4))
    assert len(policy.propose(CONTEXT, 1, seed=0)) == 1
    assert policy.stats["constrained"] == 0
