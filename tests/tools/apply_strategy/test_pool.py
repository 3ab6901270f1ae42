"""TTS over a pool: the base model, the current adapter and those at hand, with batches' adapters or without."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cao.errors import NotApplicableError
from cao.model.adapters import LoraWeights, adapter_sha256, save_adapter
from cao.model.encoder import MAX_TOKENS
from cao.model.language_model import LanguageModel
from cao.strategies import Standing
from cao.strategies.base import Pace
from cao.strategies.tts import TTS, pool_size
from cao.strategy import StrategyRejectedError, parse_strategy, validate_strategy
from cao.types import AdaptedModel, AdapterRef
from tools.apply_strategy import applicable, apply_strategy

PROMPTS = [f"Question: What is {i} plus {i * i}?\nAnswer:" for i in range(6)]


def strategy(members: str, method: str = "sum_logprobs", m: int = 3) -> TTS:
    found = validate_strategy({"family": "TTS", "num_prompt_batches": m, "method": method, "members": members})
    assert isinstance(found, TTS)
    return found


def along(lm: LanguageModel, first: float, second: float) -> LoraWeights:
    """B holds two numbers in two columns of which A's rows are orthonormal: ΔW has these two coordinates."""
    start = lm.fresh_lora(0)
    tensors = {name: torch.zeros_like(tensor) for name, tensor in start.tensors.items()}
    module = start.modules()[0]
    a, b = tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"]
    a[0, 0] = a[1, 1] = 1.0
    b[0, 0], b[0, 1] = first, second
    return replace(start, tensors=tensors)


class Along:
    """Makes adapters whose ΔW all have one direction, and a length that the batch decides."""

    prompts = 6

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm

    def generate(self, conditioning: torch.Tensor, mask: torch.Tensor) -> LoraWeights:
        return along(self.lm, float(conditioning.sum()), 0.0)


class Lengths:
    """Conditions on a prompt's length: the real encoder's shapes without its weights."""

    sha256 = ""

    def tokens(self, prompts: list[str]) -> list[int]:
        return [1 for _ in prompts]

    def condition(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        states, mask = torch.zeros(len(prompts), MAX_TOKENS, 2), torch.zeros(len(prompts), MAX_TOKENS).bool()
        for i, prompt in enumerate(prompts):
            states[i, 0, 0], mask[i, 0] = len(prompt) + 0.1 * i, True
        return states, mask


@pytest.fixture
def at_hand(tiny_lm: LanguageModel) -> dict[str, LoraWeights]:
    return {adapter_sha256(each): each for each in (along(tiny_lm, 3.0, 4.0), along(tiny_lm, 0.0, 2.0))}


@pytest.fixture
def current(tiny_lm: LanguageModel, tmp_path: Path) -> AdapterRef:
    return save_adapter(tmp_path, along(tiny_lm, 1.0, 0.0), "tiny")


def standing(current: AdapterRef | None, pool: Any = (), *, generator: bool = False) -> Standing:
    return Standing(AdaptedModel(members=(current,)), "tiny", generator, pool=tuple(pool))


def applied(chosen: TTS, at: Standing, lm: LanguageModel, store: Path, pool: Any, **options: Any) -> AdaptedModel:
    return apply_strategy(chosen, PROMPTS, at, 0, lm=lm, store=store, pool=pool, **options)


def hashes(model: AdaptedModel) -> list[str | None]:
    return [member and member.sha256 for member in model.members]


def test_the_pool_is_the_base_the_current_adapter_and_those_at_hand(
    tiny_lm: LanguageModel, tmp_path: Path, current: AdapterRef, at_hand: dict[str, LoraWeights]
) -> None:
    """No generator is needed. Of (1, 0), (3, 4) and (0, 2) the cosines are .6, 0 and .8; the base has none."""
    found = applied(strategy("pool"), standing(current, at_hand), tiny_lm, tmp_path, at_hand)
    assert hashes(found) == [None, current.sha256, *at_hand]
    assert (found.method, found.centroids) == ("sum_logprobs", None)
    assert all((tmp_path / sha256).is_dir() for sha256 in at_hand)
    assert found.note == (
        "4 members of the pool, the base model among them, together by sum_logprobs; "
        "cosines of their changes of the weights: 0.000 at least, 0.600 in the median"
    )


def test_what_takes_the_place_of_a_routed_model_is_not_routed(
    tiny_lm: LanguageModel, tmp_path: Path, current: AdapterRef, at_hand: dict[str, LoraWeights]
) -> None:
    routed = AdaptedModel(members=(current,), method="avg_prompt_embed", centroids="routes.safetensors")
    at = Standing(routed, "tiny", generator=False, pool=tuple(at_hand))
    found = applied(strategy("pool"), at, tiny_lm, tmp_path, at_hand)
    assert (len(found.members), found.method, found.centroids) == (4, "sum_logprobs", None)
    mixed = validate_strategy({"family": "LORA", "lambda": 0.5})
    trained = validate_strategy(
        {"family": "TTL", "ttl_steps": 1, "learning_rate": 1e-3, "batch_size": 2, "shuffle_data": True}
    )
    for chosen in (mixed, trained):
        one = apply_strategy(chosen, PROMPTS, at, 0, lm=tiny_lm, store=tmp_path)
        assert (len(one.members), one.method, one.centroids) == (1, None, None)


def test_repeats_are_one_member(
    tiny_lm: LanguageModel, tmp_path: Path, current: AdapterRef, at_hand: dict[str, LoraWeights]
) -> None:
    again = {current.sha256: along(tiny_lm, 1.0, 0.0), **at_hand}
    found = applied(strategy("pool"), standing(current, again), tiny_lm, tmp_path, again)
    assert hashes(found) == [None, current.sha256, *at_hand]
    bare = applied(strategy("pool"), standing(None, at_hand), tiny_lm, tmp_path, at_hand)
    assert hashes(bare) == [None, *at_hand]  # the current model is the base


def test_with_both_the_batches_adapters_are_members_too(
    tiny_lm: LanguageModel, tmp_path: Path, at_hand: dict[str, LoraWeights]
) -> None:
    made: Any = {"generator": Along(tiny_lm), "encoder": Lengths()}
    at = standing(None, at_hand, generator=True)
    batches = applied(strategy("batches"), at, tiny_lm, tmp_path, at_hand, **made)
    both = applied(strategy("both"), at, tiny_lm, tmp_path, at_hand, **made)
    assert len({*hashes(batches)}) == 3
    assert hashes(both) == [None, *at_hand, *hashes(batches)]
    assert both.note.startswith(
        "3 adapters from as many prompt batches and 3 members of the pool, the base model among"
    )
    assert batches.note == (
        "3 adapters from as many prompt batches, together by sum_logprobs; "
        "cosines of their changes of the weights: 1.000 at least, 1.000 in the median"
    )
    known = next(member for member in batches.members if member)  # current now, and generated once more
    again = applied(strategy("both"), standing(known, generator=True), tiny_lm, tmp_path, {}, **made)
    assert hashes(again)[:2] == [None, known.sha256]
    assert len(hashes(again)) == 4


def test_one_member_alone_is_no_pool(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    for at in (standing(None), standing(None, generator=True)):
        with pytest.raises(NotApplicableError, match="nothing"):
            applied(strategy("pool"), at, tiny_lm, tmp_path, {})


def test_what_the_pool_does_without_is_not_asked_for(current: AdapterRef) -> None:
    alone, rich = standing(None), standing(current)
    assert (pool_size(alone), pool_size(rich), pool_size(standing(current, [current.sha256, "a"]))) == (1, 2, 3)
    assert applicable(alone)["TTS"] == "there is nothing to route over: no generator exists for tiny"
    assert applicable(rich)["TTS"] is None
    assert strategy("pool").refusal(rich) is None
    for members in ("batches", "both"):
        assert "no generator exists for tiny" in str(strategy(members).refusal(rich))
    assert strategy("pool").refusal(standing(None, generator=True)) == "the pool holds nothing besides the base model"
    several = Standing(AdaptedModel(members=(None, current)), "tiny", generator=True)
    assert strategy("pool").refusal(several) == "2 adapters answer together already"


@pytest.mark.parametrize("members", ["pool", "both"])
@pytest.mark.parametrize("method", ["avg_sim_score", "avg_prompt_embed"])
def test_a_routing_method_is_no_strategy_over_the_pool_which_has_no_batches(members: str, method: str) -> None:
    with pytest.raises(StrategyRejectedError, match=f"members={members} goes with max_confidence, majority_vote"):
        strategy(members, method)


def test_equal_strategies_over_the_pool_have_one_text() -> None:
    one, other = strategy("pool", m=1), strategy("pool", m=20)
    assert one == other
    assert one.canonical() == {"family": "TTS", "num_prompt_batches": 1, "method": "sum_logprobs", "members": "pool"}
    assert strategy("both", m=20).num_prompt_batches == 20
    assert "members" not in strategy("batches").canonical()
    for wrong in ("33", "0", "true", "1.5", '"4"'):
        with pytest.raises(StrategyRejectedError, match="num_prompt_batches"):
            parse_strategy(
                f'{{"family": "TTS", "num_prompt_batches": {wrong}, "method": "sum_logprobs", "members": "pool"}}'
            )


def test_the_price_counts_every_member() -> None:
    """The base, the current one and three at hand; batches besides, .3 s each to generate."""
    pace = Pace(32, 40.0, 0.001, 0.001, 0.5, pool=3)
    assert tuple(strategy("pool").price(pace))[:2] == (0.0, 5.0)
    assert tuple(strategy("both", m=4).price(pace))[:2] == (pytest.approx(1.2), 9.0)
    assert tuple(strategy("batches", m=4).price(pace))[:2] == (pytest.approx(1.2), 4.0)


def test_batches_do_not_take_the_place_of_an_accepted_adapter(current: AdapterRef) -> None:
    accepted = replace(standing(current, generator=True), changed=True)
    assert strategy("batches").refusal(standing(current, generator=True)) is None
    assert "would take the place of the accepted one; members=both" in str(strategy("batches").refusal(accepted))
    assert strategy("both").refusal(accepted) is None
    assert strategy("pool").refusal(accepted) is None
