"""The paper's formulas by hand arithmetic, and the strategies' keys and bounds."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cao.model.adapters import LoraWeights
from cao.strategies import FAMILIES
from cao.strategies.calibrate import Calibrate
from cao.strategies.latent import Latent
from cao.strategies.lora_mix import LoraMix
from cao.strategies.ttl import TTL
from cao.strategies.tts import TTS
from cao.strategy import (
    MAX_STRATEGY_BYTES,
    StrategyRejectedError,
    parse_strategy,
    strategy_schema,
    validate_strategy,
)
from tools.apply_strategy.lora_mix import mix
from tools.apply_strategy.ttl_loss import sample_weight

GOOD = {
    "TTL": {"family": "TTL", "ttl_steps": 25, "learning_rate": 1e-5, "batch_size": 4, "shuffle_data": True},
    "LORA": {"family": "LORA", "lambda": 0.5},
    "TTS": {"family": "TTS", "num_prompt_batches": 20, "method": "max_confidence"},
    "Latent": {"family": "Latent", "slot_steps": 5, "slot_lr": 0.1},
    "Calibrate": {"family": "Calibrate", "prior": "choice", "strength": 1.0, "length": "none"},
}


def test_ttl_weight() -> None:
    """S(x) = λ·exp(log P − log P0)·1[P > P0] with λ = 0.1 and log P0 = 3. Source: CAO-LLM §2.4, G.1."""
    log_p = torch.tensor([0.0, 2.9, 3.0, 3.0 + math.log(2), 4.0, 3.0 + math.log(10), 9.0])
    expected = [0.0, 0.0, 0.0, 0.2, 0.1 * math.e, 1.0, 1.0]  # the last would be 40.3; it is clamped at 1
    assert sample_weight(log_p).tolist() == pytest.approx(expected)


def test_ttl_weight_carries_no_gradient() -> None:
    log_p = torch.tensor([4.0], requires_grad=True)
    assert not sample_weight(log_p).requires_grad


@pytest.mark.parametrize(
    ("lam", "expected"),
    [(0.0, [[2.0, 0.0], [0.0, 6.0]]), (0.5, [[2.0, 3.0], [1.0, 6.0]]), (1.0, [[2.0, 6.0], [2.0, 6.0]])],
)
def test_lora_mixing(lam: float, expected: list[list[float]]) -> None:
    """ΔW = (α/r)·B·M(λ)·A, M(λ) = [[I, λI], [λI, I]]. Source: CAO-LLM §2.4, Eq. 20."""
    tensors = {"m.lora_A.weight": torch.diag(torch.tensor([1.0, 3.0])), "m.lora_B.weight": torch.eye(2)}
    mixed = mix(LoraWeights(2, 4, ("m",), tensors, ""), lam)
    delta = 4 / 2 * mixed.tensors["m.lora_B.weight"] @ mixed.tensors["m.lora_A.weight"]
    assert delta.tolist() == expected


def test_a_strategy_of_each_family_is_valid() -> None:
    found = {name: parse_strategy(json.dumps(value)) for name, value in GOOD.items()}
    assert {name: type(value) for name, value in found.items()} == {
        "TTL": TTL,
        "LORA": LoraMix,
        "TTS": TTS,
        "Latent": Latent,
        "Calibrate": Calibrate,
    }
    assert {name: value.canonical() for name, value in found.items()} == GOOD


def test_ttt_is_another_name_for_ttl() -> None:
    assert parse_strategy(json.dumps({**GOOD["TTL"], "family": "TTT"})).canonical() == GOOD["TTL"]


BOUNDS = {
    ("TTL", "ttl_steps"): (1, 100),
    ("TTL", "learning_rate"): (1e-7, 1e-2),
    ("TTL", "batch_size"): (1, 16),
    ("TTL", "share"): (0.02, 1.0),
    ("TTL", "virtual_tokens"): (1, 64),
    ("LORA", "lambda"): (0.0, 1.0),
    ("TTS", "num_prompt_batches"): (1, 32),
    ("Latent", "slot_steps"): (1, 20),
    ("Latent", "slot_lr"): (1e-5, 1.0),
    ("Calibrate", "strength"): (0.0, 1.0),
}


BESIDE = {("TTL", "share"): {"subset": "layers"}, ("TTL", "virtual_tokens"): {"peft": "prompt"}}
"""What must stand beside a number for it to have an effect; without one it counts as not given."""


@pytest.mark.parametrize(("place", "bounds"), BOUNDS.items(), ids=lambda value: str(value))
def test_every_number_is_bounded_on_both_ends(place: tuple[str, str], bounds: tuple[float, float]) -> None:
    family, key = place
    low, high = bounds
    given = {**GOOD[family], **BESIDE.get(place, {})}
    for value in (low, high):
        assert validate_strategy({**given, key: value}).canonical()[key] == value
    step = 1 if isinstance(low, int) else 1e-9
    for value in (low - step, high + step, -low or -1e-9, 10**400, -(10**400)):
        with pytest.raises(StrategyRejectedError, match=f"{family}: (object: )?{key}"):
            validate_strategy({**given, key: value})


def test_every_number_has_a_bound_in_this_table() -> None:
    numbers = {
        (family, field.alias or name)
        for family, model in FAMILIES.items()
        for name, field in model.model_fields.items()
        if field.annotation in (int, float)
    }
    assert numbers == set(BOUNDS)


@pytest.mark.parametrize("value", ["5", 5.0, 5.5, True, None, [5], {"a": 5}, math.nan, math.inf])
def test_a_whole_number_is_nothing_else(value: object) -> None:
    with pytest.raises(StrategyRejectedError, match="ttl_steps"):
        validate_strategy({**GOOD["TTL"], "ttl_steps": value})


@pytest.mark.parametrize("value", ["0.5", True, None, math.nan, math.inf, -math.inf])
def test_a_number_is_nothing_else(value: object) -> None:
    with pytest.raises(StrategyRejectedError, match="lambda"):
        validate_strategy({"family": "LORA", "lambda": value})


@pytest.mark.parametrize("value", ["true", 1, 0, None])
def test_a_truth_value_is_nothing_else(value: object) -> None:
    with pytest.raises(StrategyRejectedError, match="shuffle_data"):
        validate_strategy({**GOOD["TTL"], "shuffle_data": value})


@pytest.mark.parametrize("family", list(GOOD))
def test_keys_are_exactly_the_families(family: str) -> None:
    with pytest.raises(StrategyRejectedError, match="Extra inputs"):
        validate_strategy({**GOOD[family], "comment": "please"})
    for key in GOOD[family]:
        with pytest.raises(StrategyRejectedError):
            validate_strategy({name: value for name, value in GOOD[family].items() if name != key})


def test_the_python_name_of_lambda_is_no_key() -> None:
    for value in ({"family": "LORA", "lambda_": 0.5}, {"family": "LORA", "lambda": 0.5, "lambda_": 0.5}):
        with pytest.raises(StrategyRejectedError, match="lambda_"):
            validate_strategy(value)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "not JSON"),
        ("I would choose TTL.", "not JSON"),
        ("```json\n" + json.dumps(GOOD["LORA"]) + "\n```", "not JSON"),
        (json.dumps(GOOD["LORA"]) + json.dumps(GOOD["TTL"]), "not JSON"),
        ('{"family": "LORA", "lambda": 0.5,}', "not JSON"),
        ('{"family": "LORA", "lambda": NaN}', "NaN is not a number"),
        ('{"family": "LORA", "lambda": Infinity}', "Infinity is not a number"),
        ('{"family": "LORA", "lambda": -Infinity}', "-Infinity is not a number"),
        ('{"family": "LORA", "lambda": 1e400}', "lambda"),
        ('{"family": "TTL", "ttl_steps": ' + "9" * 5000 + "}", "not JSON"),
        ('{"family": "LORA", "lambda": 0.1, "lambda": 0.9}', "'lambda' appears more than once"),
        ('{"family": "LORA", "family": "TTL"}', "'family' appears more than once"),
        ("[" + json.dumps(GOOD["LORA"]) + "]", "expected one JSON object, got list"),
        ("null", "expected one JSON object, got NoneType"),
        ('{"family": ["TTL"]}', "'family' must be one of"),
        ('{"family": "ttl"}', "'family' must be one of"),
        ('{"family": {"family": "TTL"}}', "'family' must be one of"),
        ("[" * 8000, "not JSON"),
        ('{"a":' * 3000, "not JSON"),
        ("x" * 1_000_000, f"longer than {MAX_STRATEGY_BYTES}"),
        ("é" * (MAX_STRATEGY_BYTES // 2 + 1), f"longer than {MAX_STRATEGY_BYTES}"),
        ("\ud800", "not JSON"),
        ("\x00", "not JSON"),
        ("\ufeff{}", "not JSON"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_bad_text_is_rejected_with_its_reason(raw: str, reason: str) -> None:
    with pytest.raises(StrategyRejectedError) as caught:
        parse_strategy(raw)
    message = str(caught.value)
    assert reason in message
    assert "\n" not in message
    assert len(message) < 200


def test_hostile_keys_do_not_bend_the_message() -> None:
    for key in ("\ud800", "a\nb\x1b[2J", "k" * 10_000, "TTL", ""):
        value = {**GOOD["TTL"], key: 1}
        for attempt in (
            lambda value=value: validate_strategy(value),
            lambda value=value: parse_strategy(json.dumps(value)),
        ):
            with pytest.raises(StrategyRejectedError) as caught:
                attempt()
            message = str(caught.value)
            assert message.isprintable()
            assert len(message) < 200
            message.encode()  # it goes into a file
    with pytest.raises(StrategyRejectedError) as caught:
        parse_strategy('{"a\\nb\\ud800": 1, "a\\nb\\ud800": 2}')
    assert str(caught.value).isprintable()


@given(st.text(max_size=300))
def test_any_text_is_a_strategy_or_rejected(raw: str) -> None:
    with pytest.raises(StrategyRejectedError):
        parse_strategy(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
KEYS = sorted({key for value in GOOD.values() for key in value} - {"family"})


@given(
    st.sampled_from([*FAMILIES, "TTT"]),
    st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), JSON, max_size=5),
)
def test_any_object_is_a_strategy_or_rejected(family: str, rest: dict[str, object]) -> None:
    raw = json.dumps({**rest, "family": family})
    try:
        canonical = parse_strategy(raw).canonical()
    except StrategyRejectedError as error:
        canonical, message = None, str(error)
    if canonical is None:
        assert message.isprintable()
    else:
        assert validate_strategy(canonical).canonical() == canonical


VALID = st.one_of(
    st.fixed_dictionaries(
        {
            "family": st.just("TTL"),
            "ttl_steps": st.integers(1, 100),
            "learning_rate": st.floats(1e-7, 1e-2),
            "batch_size": st.integers(1, 16),
            "shuffle_data": st.booleans(),
        }
    ),
    st.fixed_dictionaries({"family": st.just("LORA"), "lambda": st.floats(0, 1)}),
    st.fixed_dictionaries(
        {
            "family": st.just("TTS"),
            "num_prompt_batches": st.integers(1, 32),
            "method": st.sampled_from(
                ["avg_sim_score", "avg_prompt_embed", "max_confidence", "majority_vote", "sum_logprobs"]
            ),
        }
    ),
    st.fixed_dictionaries(
        {"family": st.just("Latent"), "slot_steps": st.integers(1, 20), "slot_lr": st.floats(1e-5, 1)}
    ),
)


@given(VALID)
def test_what_is_valid_comes_back_unchanged(value: dict[str, object]) -> None:
    strategy = parse_strategy(json.dumps(value))
    assert strategy.canonical() == value
    assert parse_strategy(json.dumps(strategy.canonical())) == strategy


def test_a_strategy_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        parse_strategy(json.dumps(GOOD["LORA"])).lambda_ = 3.0  # type: ignore[union-attr, misc]


def test_the_schema_states_the_same_keys_and_bounds() -> None:
    schemas = {schema["properties"]["family"]["const"]: schema for schema in strategy_schema()["anyOf"]}
    assert set(schemas) == set(GOOD)
    for family, schema in schemas.items():
        assert set(schema["required"]) == set(GOOD[family])
        assert {key for key, rule in schema["properties"].items() if "default" not in rule} == set(GOOD[family])
        assert schema["additionalProperties"] is False
    for (family, key), (low, high) in BOUNDS.items():
        if key in FAMILIES[family].unoffered:
            assert key not in schemas[family]["properties"]
            continue
        stated = schemas[family]["properties"][key]
        assert (stated["minimum"], stated["maximum"]) == (low, 1.5 if key == "lambda" else high)  # as a strength
    assert [schema["properties"]["family"]["const"] for schema in strategy_schema(["LORA"])["anyOf"]] == ["LORA"]
